"""Two models side by side, from what workers counted or by judging a window with each."""

from __future__ import annotations

from typing import Any

from models.contract import Topics
from models.records.verdict import Shadow, Summary

Rows = list[dict[str, Any]]
Window = tuple[int, int]


def by_shadow(settings: Any, pair: list[str], window: Window) -> Rows:
    """Samples past the line by the forest alone, by image, while one shadowed the other."""
    from streams.stores.decided import said

    joint: dict[str, Shadow] = {}
    active = "" if pair[0] == "none" else pair[0]
    for one in said(settings.kafka, Topics(settings.topic_prefix), window[0]):
        if not isinstance(one, Summary) or one.shadow is None or one.scope != settings.scope:
            continue
        mine = one.model == active and one.shadow.model == pair[1]
        if mine and window[0] <= one.at_ns < window[1]:
            before = joint.get(one.image)
            joint[one.image] = one.shadow if before is None else before.joined(one.shadow)
    return [_counted(image, joint[image]) for image in sorted(joint)]


def _counted(image: str, shadow: Shadow) -> dict[str, Any]:
    correlation = shadow.correlation()
    return {
        "image": image,
        "samples": shadow.samples,
        "past_the_line_by_both": shadow.both,
        "only_by_one": shadow.active_only,
        "only_by_other": shadow.shadow_only,
        "correlation": None if correlation is None else round(correlation, 3),
    }


def by_replay(
    settings: Any, registry: Any, pair: list[str], window: Window, *, archive: bool = False
) -> Rows:  # fmt: skip  # two lines say as much
    """Tickets and isolations of each model, by image, and in all."""
    from streams.replaying import apart

    one, other = (_judged(settings, registry, model, window, archive) for model in pair)
    rows = [_told(found.image, found.tickets, found.isolations) for found in apart(one, other)]
    if len(rows) > 1:
        counted = [name for name in rows[0] if name != "image"]
        rows.append({"image": "all"} | {name: sum(row[name] for row in rows) for name in counted})
    return rows


def _told(image: str, *counts: tuple[int, int, int]) -> dict[str, Any]:
    names = ("by_both", "by_one", "by_other")
    kinds = ("tickets", "isolations")
    return {"image": image} | {
        f"{kind}_{name}": count
        for kind, found in zip(kinds, counts, strict=True)
        for name, count in zip(names, found, strict=True)
    }


def _judged(settings: Any, registry: Any, model: str, window: Window, archive: bool) -> Any:
    """What would have been decided in the window with this model, by the policy in force."""
    from streams.commands.progress import reading
    from streams.commands.replay import archived_of, core_of_the_time, telemetry_of, with_model
    from streams.policies import policy_of
    from streams.replaying import replayed

    then = core_of_the_time(settings, registry)
    asked = with_model(then, registry, model)
    with reading(f"judging with {model}") as progress:
        source = archived_of(settings) if archive else telemetry_of(settings, progress)
        return replayed(source, asked, policy_of(settings), settings.scope, window, then)
