"""``python -m tests.fuzz --count 1000000``: hostile input for all that reads, and a table.

Of the inputs, half are drawn from each target's seeds, three tenths are chosen by coverage and
a fifth go through whole parts beside good records; the governor's sequences are counted apart.
Ends with 1 when anything failed: the input then lies under ``build/fuzz``, and belongs under
``tests/fuzz/found`` once what it found is mended. Ctrl-C (or SIGTERM) ends it early: it tells what
has been done by then, and ends with 130 if nothing failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.lines import LINES
from tests.fuzz.targets import TARGETS
from tests.fuzz.work import Done, Failure, Kind, Share, work

ROOT: Final = Path(__file__).parents[2]
FAILED: Final = ROOT / "build/fuzz"
AT_ONCE: Final[dict[Kind, int]] = {"drawn": 500, "guided": 25_000, "line": 200, "sequence": 100}
"""Inputs in one share. A guided one starts a process, which takes seconds: many."""
PARTS: Final[dict[Kind, float]] = {"drawn": 0.5, "guided": 0.3, "line": 0.2}
LEAST_GUIDED: Final = 1_000
"""Fewer are not worth the start of a process."""
GUIDED: Final = importlib.util.find_spec("atheris") is not None
"""Atheris has wheels for Linux on x86-64; elsewhere the drawn inputs take its part."""


@dataclass(slots=True)
class Row:
    inputs: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)


def shares(count: int, sequences: int, seed: int, only: str = "") -> Iterator[Share]:
    """All the work, evenly over what there is of each kind."""
    parts = dict(PARTS)
    if not GUIDED or count * parts["guided"] < LEAST_GUIDED:
        parts["drawn"] += parts.pop("guided")
    names: dict[Kind, list[str]] = {
        "guided": [only] if any(one.name.startswith(only) for one in TARGETS) else [],
        "drawn": [one.name for one in TARGETS if one.name.startswith(only)],
        "line": [one.name for one in LINES if one.name.startswith(only)],
    }
    for kind, part in parts.items():
        chosen = names[kind]
        for at, name in enumerate(chosen):
            whole = round(count * part)
            each = whole // len(chosen) + (at < whole % len(chosen))
            yield from _cut(kind, name, seed, each)
    if not only or only == "sequences":
        yield from _cut("sequence", "sequences", seed, sequences)


def _cut(kind: Kind, name: str, seed: int, count: int) -> Iterator[Share]:
    for start in range(0, count, AT_ONCE[kind]):
        yield Share(kind, name, seed, start, min(AT_ONCE[kind], count - start))


def run(work_to_do: list[Share], jobs: int, console: Console) -> tuple[dict[str, Row], bool]:
    """What came of it, by target; and whether it was stopped before all was done."""
    rows: dict[str, Row] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("failed {task.fields[failed]}"), TimeRemainingColumn())  # fmt: skip
    with (
        Progress(*columns, console=console) as bar,
        ProcessPoolExecutor(jobs, initializer=_left_alone) as pool,
    ):
        total = sum(share.count for share in work_to_do)
        task = bar.add_task("fuzz", total=total, failed=0)
        failed = 0
        try:
            waiting: dict[Future[Done], Share] = {pool.submit(work, one): one for one in work_to_do}
            console.print(
                f"{total:,} inputs in {jobs} processes; Ctrl-C tells what is done by then"
            )
            for future in as_completed(waiting):
                share, done = waiting[future], future.result()
                row = rows.setdefault(_label(share), Row())
                row.inputs += done.inputs
                row.refused += done.refused
                row.failures += done.failures
                failed += len(done.failures)
                bar.update(task, advance=done.inputs, failed=failed)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            return rows, True
    return rows, False


def _left_alone() -> None:
    """What stops the run is the run's to take: shares under way end as they do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _label(share: Share) -> str:
    told = {"sequence": "governor sequences", "guided": f"guided {share.name or '(all targets)'}"}
    return told.get(share.kind, f"{share.kind} {share.name}")


def _keep(failure: Failure) -> Path:
    path = FAILED / failure.name.replace("/", "-") / f"{failure.seed}-{failure.number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(failure.content)
    return path.relative_to(ROOT)


def _print(rows: dict[str, Row], console: Console) -> None:
    table = Table("target", "inputs", "refused", "failed")
    for name in sorted(rows):
        row = rows[name]
        refused = "" if name.startswith(("guided", "line", "governor")) else f"{row.refused:,}"
        table.add_row(name, f"{row.inputs:,}", refused, str(len(row.failures)))
    console.print(table)
    for row in rows.values():
        for failure in row.failures[:5]:
            console.print(
                f"{failure.name}: {failure.problem}\n  input: {_keep(failure)}", markup=False
            )


def _document(rows: dict[str, Row], seconds: float, seed: int, *, stopped: bool) -> bytes:
    body = {
        "seed": seed, "stopped": stopped, "seconds": round(seconds, 1),
        "inputs": sum(row.inputs for name, row in rows.items() if not name.startswith("gov")),
        "sequences": sum(row.inputs for name, row in rows.items() if name.startswith("gov")),
        "failures": sum(len(row.failures) for row in rows.values()),
        "guided_by_coverage": GUIDED,
        "targets": {
            name: {
                "inputs": row.inputs,
                "failures": [
                    {"problem": one.problem, "input": str(_keep(one))} for one in row.failures
                ],
            }
            for name, row in sorted(rows.items())
        },
    }  # fmt: skip  # by subject
    return orjson.dumps(body, option=orjson.OPT_INDENT_2)


def main() -> int:
    said = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    said.add_argument("--count", type=int, default=100_000, help="inputs, over all targets")
    said.add_argument("--sequences", type=int, default=None, help="the governor's; COUNT/10")
    said.add_argument("--seed", type=int, default=0, help="the same one gives the same inputs")
    said.add_argument("--only", default="", help="targets and lines that begin so")
    said.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    said.add_argument("--json", action="store_true", help="one JSON document on standard output")
    given = said.parse_args()
    sequences = given.count // 10 if given.sequences is None else given.sequences
    console = Console(stderr=True)
    began_s = time.monotonic()
    work_to_do = list(shares(given.count, sequences, given.seed, given.only))
    if not work_to_do:
        names = {one.name for one in TARGETS} | {one.name for one in LINES} | {"sequences"}
        said.error(f"nothing begins with {given.only!r}: {', '.join(sorted(names))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also behind nohup
    rows, stopped = run(work_to_do, given.jobs, console)
    seconds = time.monotonic() - began_s
    if given.json:
        body = _document(rows, seconds, given.seed, stopped=stopped)
        sys.stdout.write(body.decode() + "\n")
    else:
        _print(rows, console)
    failures = sum(len(row.failures) for row in rows.values())
    inputs = sum(row.inputs for row in rows.values())
    told = f"{inputs:,} inputs in {seconds:.0f} s: {failures or 'none'} failed"
    console.print(f"{told}; stopped before the end" if stopped else told)
    if failures:
        return 1
    return 130 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
