"""Runs of the race of engines → rows: medians with their spread, ratios within each round."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from models.records.telemetry import Encoding

YARDSTICK: Final = "pipe"


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who runs, with whose scorer, what job, from which form of the records."""

    engine: str
    scorer: str
    job: str = "reduced"
    encoding: Encoding = "json"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one entrant. ``problem`` says why there are no figures, where there are none;
    ``complete``: every message accounted for.
    """

    entrant: Entrant
    samples_per_message: int
    round: int
    samples: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    complete: bool = False
    problem: str = ""

    @property
    def samples_per_s(self) -> float:
        return self.samples / self.wall_s

    @property
    def cpu_s_per_million_samples(self) -> float:
        return self.cpu_s / self.samples * 1e6


def throughput(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """One row an entrant and size, in the order in which they first ran: by size, then as
    entered. Figures are None where no run has any.
    """
    by_row: dict[tuple[int, Entrant], list[Run]] = defaultdict(list)
    for run in runs:
        by_row[run.samples_per_message, run.entrant].append(run)
    sizes = sorted({size for size, _ in by_row})
    return [
        _row(size, entrant, mine, by_row)
        for wanted in sizes
        for (size, entrant), mine in by_row.items()
        if size == wanted
    ]


def _row(
    size: int, entrant: Entrant, runs: Sequence[Run], all_runs: dict[tuple[int, Entrant], list[Run]]
) -> dict[str, Any]:
    whole = [run for run in runs if not run.problem]
    row: dict[str, Any] = {**asdict(entrant), "samples_per_message": size}
    for name in ("samples_per_s", "cpu_s_per_million_samples"):
        row |= _spread(name, [getattr(run, name) for run in whole])
    row |= _spread("cpu_to_pipe", _ratios(whole, all_runs))
    row["samples"] = whole[0].samples if whole else 0
    row["runs"] = len(runs)
    row["complete"] = all(run.complete for run in runs)
    problems = [run.problem for run in runs if run.problem]
    return row | ({"problem": problems[-1]} if problems else {})


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {name: None, f"{name}_min": None, f"{name}_max": None}
    return {
        name: round(statistics.median(values), 3),
        f"{name}_min": round(min(values), 3),
        f"{name}_max": round(max(values), 3),
    }


def _ratios(runs: Sequence[Run], all_runs: dict[tuple[int, Entrant], list[Run]]) -> list[float]:
    """CPU against the pipe's of the same round, size and encoding; the machine's moods cancel."""
    pipe = {
        (run.samples_per_message, run.round, entrant.encoding): run.cpu_s_per_million_samples
        for (_, entrant), found in all_runs.items()
        if entrant.engine == YARDSTICK
        for run in found
        if not run.problem
    }
    places = [(run.samples_per_message, run.round, run.entrant.encoding) for run in runs]
    return [
        run.cpu_s_per_million_samples / pipe[place]
        for run, place in zip(runs, places, strict=True)
        if place in pipe
    ]


_HEAD: Final = (
    "samples a message", "engine", "scorer", "job", "encoding",
    "CPU-s per million samples", "of the pipe's", "samples/s", "runs", "complete",
)  # fmt: skip  # a line of the table


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as Markdown that reads as text."""
    lines = [_HEAD, *map(_cells, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEAD))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(row["samples_per_message"]), row["engine"], row["scorer"], row["job"], row["encoding"],
        _told(row, "cpu_s_per_million_samples", "{:,.3g}"), _told(row, "cpu_to_pipe", "{:.2f}"),
        _told(row, "samples_per_s", "{:,.0f}"), str(row["runs"]),
        "yes" if row["complete"] else "NO",
    )  # fmt: skip  # in the order of the head


def _told(row: dict[str, Any], name: str, form: str) -> str:
    if row[name] is None:
        return "none"
    middle, low, high = (_plain(form, row[f"{name}{part}"]) for part in ("", "_min", "_max"))
    return f"{middle} ({low} to {high})"


def _plain(form: str, value: float) -> str:
    """Three figures, never as a power of ten."""
    return f"{value:,.0f}" if "g" in form and value >= 100 else form.format(value)
