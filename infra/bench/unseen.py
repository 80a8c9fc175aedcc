"""How `plimsoll evaluate` does on cases that nobody chose settings by: ``python -m infra.bench.unseen``.

Every kind of fleet of infra/bench/made_up.py with every seed is one case, or every labelled file
that is given; judged as the command does and counted as people feel it: an alarm opens a ticket that swallows those of the next hour
(or ``merge_s``); one opened on a row that is labelled normal is false. A budget is *kept* where
false tickets a day are at most 1.2 times what is allowed on the mean of all members, and at most
twice on each; fewer than three are never too many, for histories are short.
"""  # noqa: E501  # the command on one line

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from infra.bench.made_up import KINDS, made_up
from models.budget import Flags
from models.evaluation import evaluate
from models.records.cases import Answer, Cases

DAY_S: Final = 86_400.0
MEAN: Final = 1.2
WORST: Final = 2.0
FEW: Final = 3


@dataclass(frozen=True, slots=True)
class Told:
    """One case: labelled events and those with an alarm in them; false tickets and the days of
    normal rows they fell in, a day of the worst member; members without one; whether the budget
    is kept, and by the mean of all members.
    """

    case: str
    kind: str
    members: int
    events: int
    found: int
    false_tickets: int
    days: float
    worst: float
    clean: int
    kept: bool
    kept_on_the_mean: bool


def tickets(alarm: Flags, merge_rows: int) -> int:
    """How often a person is called: an alarm swallows those of the next rows.

    >>> tickets(np.array([1, 0, 1, 1, 0, 1], bool), 2)
    2
    """
    count, until = 0, -1
    for at in np.flatnonzero(alarm).tolist():
        if at > until:
            count, until = count + 1, at + merge_rows
    return count


def told(kind: str, content: bytes, answers: Mapping[str, Answer], budget: float) -> Told:
    """A case's answers against its labels."""
    case = Cases(io.BytesIO(content))
    events = found = clean = 0
    false: list[int] = []
    days: list[float] = []
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for name, answer in answers.items():
            normal = arrays[f"{name}/label"] == 0
            event = arrays[f"{name}/event"]
            labelled = np.unique(event[event >= 0]).tolist()
            events += len(labelled)
            found += sum(bool(answer.alarm[event == one].any()) for one in labelled)
            false.append(tickets(answer.alarm & normal, case.merge_rows))
            days.append(float(normal.sum()) * case.period_s / DAY_S)
            clean += not (answer.alarm & normal).any()
    rates = [count / length for count, length in zip(false, days, strict=True)]
    breach = any(
        count >= FEW and rate > WORST * budget for count, rate in zip(false, rates, strict=True)
    )
    on_the_mean = sum(false) < FEW or sum(false) <= MEAN * budget * sum(days)
    return Told(
        case.name, kind, len(answers), events, found, sum(false), round(sum(days), 3),
        round(max(rates), 2), clean, on_the_mean and not breach, on_the_mean,
    )  # fmt: skip  # as the fields lie


def judged(kind: str, content: bytes, budget: float) -> Told:
    """One case, answered as the command does."""
    answers: dict[str, Answer] = {}
    for step in evaluate(Cases(io.BytesIO(content)), budget):
        answers |= step.answers
    return told(kind, content, answers, budget)


def summed(cases: Sequence[Told]) -> dict[str, Any]:
    """All cases of a kind, or of all kinds, in one row."""
    events, days = sum(one.events for one in cases), sum(one.days for one in cases)
    return {
        "cases": len(cases),
        "events": events,
        "event_recall": round(sum(one.found for one in cases) / max(events, 1), 3),
        "false_a_day": round(sum(one.false_tickets for one in cases) / max(days, 1e-9), 3),
        "false_tickets": sum(one.false_tickets for one in cases),
        "worst_a_day": max(one.worst for one in cases),
        "clean": round(sum(one.clean for one in cases) / sum(one.members for one in cases), 3),
        "kept": round(sum(one.kept for one in cases) / len(cases), 3),
        "kept_on_the_mean": round(sum(one.kept_on_the_mean for one in cases) / len(cases), 3),
    }


def _drawn(kinds: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for kind in KINDS:
        if kind.name in kinds:
            for seed in seeds:
                yield kind.name, partial(made_up, kind, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=[kind.name for kind in KINDS])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(401, 409)))
    parser.add_argument("--budget", type=float, default=1.0, help="false tickets, a member and day")
    parser.add_argument("--keep", type=Path, help="a folder for the case files that are made up")
    parser.add_argument("--files", type=Path, nargs="+", help="labelled case files instead")
    parser.add_argument("--json", action="store_true", help="every case, not sums")
    asked = parser.parse_args()
    drawn = list(_drawn(asked.kinds, asked.seeds))
    found = [(file.stem, file.read_bytes) for file in asked.files or ()] or drawn
    cases: list[Told] = []
    with Progress(console=Console(stderr=True)) as progress:
        for kind, content in progress.track(found, description="cases"):
            cases.append(judged(kind, content(), asked.budget))
            if asked.keep and not asked.files:
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{cases[-1].case}.npz").write_bytes(content())
    if asked.json:
        body = [asdict(one) for one in cases]
        sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
        return
    rows = {kind: [one for one in cases if one.kind == kind] for kind, _ in found}
    rows["all"] = cases
    table = Table("kind", *summed(cases))
    for name, some in rows.items():
        table.add_row(name, *map(str, summed(some).values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
