"""How often each story is told apart from its twin: ``python -m infra.bench.stories``.

Draws variations of the simulated fleet's stories, plays each to the live judge's core at 5 s
and carries out at once what the default policy's rules ask for, without its guards. One draw
tells all stories on a fleet that has lived for half an hour at least, five minutes longer
than for the draw before; each seed is a fleet of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from infra.bench.playing import POLICY, START_NS, Play, concerning, highest
from models.records.order import Action
from models.records.verdict import Finding, Level
from producers.sources.simulated import STORIES, Fleet, Running, Story, varied
from producers.sources.simulated.chance import chance

WARM_UP_S: Final = 900.0
BETWEEN_S: Final = 300.0
ORDERS: Final = (Action.ISOLATE, Action.REDEPLOY)
COLUMNS: Final = (*map(str, Level), "none", "redeploy", "isolate")


@dataclass(frozen=True, slots=True)
class Ending:
    """What one story of one draw came to. ``plot`` tells how it was varied, ``why`` what was
    said when the level was reached.
    """

    seed: int
    draw: int
    story: str
    part: str
    twin: bool
    level: Level
    order: str
    right: bool
    seen_s: float | None
    plot: str
    why: str


@dataclass(slots=True)
class Counted:
    """``bystanders``: orders against containers of which no story told."""

    endings: list[Ending] = field(default_factory=list)
    bystanders: list[str] = field(default_factory=list)
    draws: int = 0


def counted(
    seeds: Sequence[int], draws: int, told: Callable[[], None] = lambda: None,
    warm_up_s: float = WARM_UP_S,
) -> Counted:  # fmt: skip  # two lines say as much
    """So many draws on each seed's fleet; ``told`` is called after each."""
    result = Counted()
    for seed in seeds:
        trunk = Play(Fleet(seed, START_NS))
        trunk.run(warm_up_s)
        trunk.train(warm_up_s, seed, "bench")
        for draw in range(draws):
            play = trunk.branch()
            play.findings, play.acted = [], {}
            stories = varied(chance(seed, "variation", draw))
            running = _told(play, stories)
            result.endings += [_ending(seed, draw, one, play) for one in running]
            result.bystanders += [f"{seed}/{draw} {one}" for one in _bystanders(running, play)]
            result.draws += 1
            trunk.run(BETWEEN_S)
            told()
    return result


def _told(play: Play, stories: Sequence[Story]) -> list[Running]:
    fleet, running = play.fleet, list[Running]()
    began_ns, due = fleet.now_ns(), sorted(stories, key=lambda story: story.starts_s)
    while due or any(fleet.now_ns() < one.watched_until_ns for one in running):
        while due and fleet.now_ns() >= began_ns + due[0].starts_s * 1e9:
            running.append(fleet.tell(due.pop(0)))
        play.step()
    return running


def _ending(seed: int, draw: int, running: Running, play: Play) -> Ending:
    story, mine = running.story, concerning(running, play.findings)
    level, order = highest(mine), _order(mine)
    first = next((one.verdict for one in mine if one.verdict.level is level), None)
    if story.twin:
        right = level.rank <= Level.WATCH.rank
    else:
        right = level is story.expected and order == story.action
    return Ending(
        seed, draw, story.name, story.part, story.twin, level, order, right,
        (first.at_ns - running.began_ns) / 1e9 if first else None, repr(story.plot),
        "; ".join(reason.text for reason in first.reasons) if first else "",
    )  # fmt: skip  # in the order of the class


def _order(findings: Sequence[Finding]) -> str:
    """The strongest that the default policy's rules ask for."""
    asked = {POLICY.action_for(one.verdict) for one in findings}
    return next((action.value for action in ORDERS if action in asked), "none")


def _bystanders(running: Sequence[Running], play: Play) -> Iterator[str]:
    concerned = {
        finding.verdict.subject for one in running for finding in concerning(one, play.findings)
    } | {victim for one in running for victim in one.victims}
    for finding in play.findings:
        verdict, action = finding.verdict, POLICY.action_for(finding.verdict)
        if action in ORDERS and verdict.subject not in concerned:
            why = "; ".join(reason.text for reason in verdict.reasons)
            yield f"{verdict.name or verdict.subject} {verdict.level}, {action}: {why}"


def rows(endings: Sequence[Ending]) -> dict[str, Counter[str]]:
    """For each story, how often it reached each level and led to each order; ``right``."""
    made: dict[str, Counter[str]] = {story.name: Counter() for story in STORIES}
    for one in endings:
        made[one.story].update((one.level.value, one.order))
        made[one.story]["right"] += one.right
    return made


def _table(result: Counted) -> Table:
    table = Table("story", *COLUMNS, "right", title=f"{result.draws} draws", box=None)
    made = rows(result.endings)
    for story in sorted(STORIES, key=lambda story: story.twin):
        cells = (str(made[story.name][name] or "") for name in (*COLUMNS, "right"))
        table.add_row(f"{story.name} (twin)" if story.twin else story.name, *cells)
    return table


def _document(result: Counted) -> dict[str, Any]:
    return {
        "draws": result.draws,
        "stories": {name: dict(row) for name, row in rows(result.endings).items()},
        "bystanders": result.bystanders,
        "wrong": [one for one in result.endings if not one.right],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(101, 111)))
    parser.add_argument("--draws", type=int, default=10, help="on each seed's fleet")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("draws", total=len(asked.seeds) * asked.draws)
        result = counted(asked.seeds, asked.draws, lambda: progress.advance(task))
    if asked.json:
        sys.stdout.write(orjson.dumps(_document(result), option=orjson.OPT_INDENT_2).decode())
        return
    console = Console(width=140)
    console.print(_table(result))
    console.print("orders against bystanders:", *(result.bystanders or ["none"]), sep="\n  ")
    for one in result.endings:
        if not one.right:
            console.print(f"{one.seed}/{one.draw} {one.story} on {one.part}: {one.level}, "
                          f"{one.order}; {one.plot}; {one.why}", highlight=False)  # fmt: skip


if __name__ == "__main__":
    main()
