"""``plimsoll evaluate``: labelled histories, answered by the code that judges."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.commands.output import AsJson, print_json, show


def command(
    cases: Annotated[
        Path, typer.Argument(metavar="CASES.npz", help="Histories to learn from and to judge.")
    ],
    out: Annotated[Path, typer.Option(metavar="ANSWERS.npz", help="Where scores and alarms go.")],
    budget: Annotated[
        float, typer.Option(min=0.0, help="False alarms allowed, an entity and day.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Judge the labelled histories of a case file; labels are never read.

    Each entity is learned from its train rows and judged on its test rows in order; those of
    one image pool what they learn. docs/detection.md describes both files.
    """
    from models.evaluation import evaluate, rows_of
    from models.records.cases import Answer, Cases, pack_answers

    began_s = time.monotonic()
    answers: dict[str, Answer] = {}
    with _opened(cases) as file, _named(cases):
        case = Cases(file)
        total = rows_of(case)
        with _progress(case.name or cases.name, total) as advance:
            for step in evaluate(case, budget):
                answers |= step.answers
                advance(step.rows)
    seconds = time.monotonic() - began_s
    _write(out, pack_answers(answers, budget, round(seconds, 3)))
    told = {
        "case": case.name, "budget": budget, "images": len(case.images),
        "entities": len(answers), "rows": total,
        "alarms": sum(int(answer.alarm.sum()) for answer in answers.values()),
        "seconds": round(seconds, 1), "us_a_row": round(seconds / max(total, 1) * 1e6, 1),
        "answers": str(out),
    }  # fmt: skip  # a table
    print_json(told) if as_json else show([told], as_json=False)


def _opened(path: Path) -> Any:
    from models.errors import ConfigurationError

    try:
        return path.open("rb")
    except OSError as problem:
        raise ConfigurationError(f"{path} can't be read: {problem.strerror}") from problem


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Faults name the file."""
    from models.errors import MalformedRecord

    try:
        yield
    except MalformedRecord as problem:
        raise problem.under(str(path)) from problem


def _write(path: Path, content: bytes) -> None:
    from models.errors import ConfigurationError

    try:
        path.write_bytes(content)
    except OSError as problem:
        raise ConfigurationError(f"{path} can't be written: {problem.strerror}") from problem


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, for a person only; called with the rows that are done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda rows: bar.advance(task, rows)
