"""An incident in lines of plain text; what came from containers can't steer the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from streams.stores.incidents import Story


def clean(text: str) -> str:
    """Without control characters: names and reasons hold what a container chose to say.

    >>> clean("cart-1" + chr(27) + "[2J")
    'cart-1·[2J'
    """
    return "".join(one if one.isprintable() else "·" for one in text)


def told(story: Story) -> Iterator[str]:
    """The incident's present state, line by line."""
    latest, state = story.latest, story.state
    yield clean(latest["message"])
    yield ""
    yield from (f"{name:<10} {clean(str(value))}" for name, value in _facts(story))
    yield from _section("reasons", [one.get("name", "") for one in latest["evidences"]])
    yield from _section("acts", [act_line(act) for act in state["actions"]])
    yield from _section("remarks", state["said"])
    evidence = state["evidence"]
    yield ""
    yield f"evidence   {evidence['exhibits']} exhibits: `plimsoll incident verify {story.uid}`"
    if state["proposed"] and story.open:
        yield f"proposed   {state['proposed']}: `plimsoll incident approve {story.uid}`"


def act_line(act: Mapping[str, Any]) -> str:
    """``2026-11-24 05:00:01 isolate: done, verified in 0.8 s``."""
    proof = {True: f", verified in {act['took_s']:.1f} s", False: ", NOT verified", None: ""}
    asked = act["asked"] if act["asked"] == act["done"] else f"{act['asked']} → {act['done']}"
    detail = f": {act['detail']}" if act["detail"] else ""
    told_ = f"{at(act['issued_time'])} {asked}: {act['answer']}{proof[act['verified']]}{detail}"
    return told_ if not act["undoes"] else f"{told_} (about {act['undoes']})"


def at(at_ms: int) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(at_ms / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _facts(story: Story) -> Iterator[tuple[str, Any]]:
    latest, state = story.latest, story.state
    yield "incident", story.uid
    now = f", now {state['level_now']}" if state["level_now"] != state["level"] else ""
    yield "level", f"{state['level']}{now}"
    yield "stage", state["stage"]
    yield "subject", f"{latest['resources'][0]['name']} ({story.subject})"
    yield "group", state["group"]
    yield "host", latest["device"]["uid"]
    yield "opened", at(story.created_ms)
    if state["confirmed_by"]:
        yield "confirmed", state["confirmed_by"]
    if state["ended_by"]:
        yield "ended by", state["ended_by"]


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield f"{title}:"
        yield from (f"  {clean(line)}" for line in lines)
