"""The usage report as one HTML file without any outside resource, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from streams.report.page import environment
from streams.report.plots import HEIGHT, WIDTH, Plot, plots
from streams.report.usage import Row, Usage, told

MOST_ROWS: Final = 25
"""Of a table on the page; the others are summed in its last line. CSV has all."""
MOST_MOVERS: Final = 5
NO_TEAM: Final = "no team label"
MOVES: Final = (
    ("cores", "CPU", "cores", 0.01),
    ("memory", "memory", "bytes", 10e6),
    ("sent", "data sent", "rate", 1e3),
)
"""What is compared, and the change below which nobody cares."""
CALLED: Final = {
    "cpu_cores": "CPU, cores", "memory_working_set_bytes": "memory, bytes",
    "network_transmit_bytes_per_s": "sent, bytes a second",
    "network_receive_bytes_per_s": "received, bytes a second",
}  # fmt: skip  # a table
COLUMNS: Final = (
    "begins", "ends", "grouped_by", "key", "team_label", "containers", "core_hours",
    "average_cores", "memory_byte_hours", "average_memory_bytes", "sent_bytes", "received_bytes",
    "disk_read_bytes", "disk_written_bytes", "growth_step", "cores_before", "cores_after",
    "memory_before", "memory_after", "sent_per_s_before", "sent_per_s_after", "memory_reserved",
    "memory_peak", "memory_idle", "cores_reserved", "cores_peak", "cores_idle",
)  # fmt: skip  # a list to read across


def page(usage: Usage) -> str:
    """The report for people."""
    return environment().get_template("usage.html").render(
        usage=usage, numbers=list(_numbers(usage)), lasted=told(usage.lasted), told=told,
        images=shortened(usage.images), hosts=shortened(usage.hosts),
        teams=shortened(_with_names(usage.teams)), movers=movers(usage),
        waste=[row for row in usage.waste if _wastes(row)][:MOST_ROWS],
        unlimited=_unlimited(usage), saved=_saved(usage), step=_step(usage),
        plots=_plots(usage), together=_together(usage), width=WIDTH, height=HEIGHT,
        cores=cores, size=size, rate=rate, percent=percent, change=change,
        busiest=told(timedelta(seconds=usage.span_s)).removeprefix("60 "), clock=_clock,
        seconds=lambda s: timedelta(seconds=s), called=CALLED, moment=_moments(usage),
    )  # fmt: skip  # by subject


def rows_of(usage: Usage) -> list[Row]:
    """Every figure, a row an image, host and team; what is not known is None."""
    growth = {row["key"]: row for row in usage.growth.rows}
    waste: dict[str, Row] = {}
    for row in usage.waste:
        waste[row["key"]] = _summed(waste.get(row["key"]), row)
    made = []
    for by, rows in (("image", usage.images), ("host", usage.hosts), ("team", usage.teams)):
        for row in rows:
            extra = (growth.get(row["key"]), waste.get(row["key"])) if by == "image" else ({}, {})
            made.append(_flat(usage, by, row, *extra))
    return made


def as_csv(usage: Usage) -> str:
    """:func:`rows_of` as CSV, with a line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(usage))
    return text.getvalue()


def movers(usage: Usage) -> list[tuple[str, str, list[Row]]]:
    """For each thing compared, the images that changed most: what, its unit, the changes."""
    found = []
    for name, called, unit, least in MOVES:
        moved = [
            {"key": row["key"], "before": row[f"{name}_before"], "after": row[f"{name}_after"],
             "containers": (row["containers_before"], row["containers_after"])}
            for row in sorted(usage.growth.rows, key=lambda row: -abs(row[f"{name}_more"]))
            if abs(row[f"{name}_more"]) >= least
        ]  # fmt: skip  # one row each
        found.append((called, unit, moved[:MOST_MOVERS]))
    return found


def shortened(rows: Sequence[Row]) -> list[Row]:
    """The first of a table, and what the others are together."""
    if len(rows) <= MOST_ROWS + 1:
        return list(rows)
    kept, left = list(rows[:MOST_ROWS]), rows[MOST_ROWS:]
    together: Row = {"key": f"{len(left)} others", "label": None, "name": None, "rest": True}
    for name in left[0].keys() - together.keys():
        values = [row[name] for row in left if isinstance(row[name], int | float)]
        together[name] = sum(values) if values else None
    return [*kept, together]


def _plots(usage: Usage) -> list[Plot]:
    order = list(CALLED)
    return sorted(plots(usage.course, {}, []), key=lambda plot: order.index(plot.feature))


def _together(usage: Usage) -> list[tuple[str, str, float, float]]:
    """What all images were before and after, as :func:`movers` has each."""
    rows = usage.growth.rows
    return [
        (called, unit, sum(row[f"{name}_before"] for row in rows),
         sum(row[f"{name}_after"] for row in rows))
        for name, called, unit, _ in MOVES
    ]  # fmt: skip  # one tuple


# ---- numbers for people --------------------------------------------------------------------


def size(value: float | None) -> str:
    """An amount of bytes.

    >>> [size(v) for v in (None, 0, 950, 1_234_000, 7.5e9, 2e12)]
    ['-', '0 B', '950 B', '1.2 MB', '7.5 GB', '2.0 TB']
    """
    if value is None:
        return "-"
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f} B"


def rate(value: float | None) -> str:
    return "-" if value is None else f"{size(value)}/s"


def cores(value: float | None) -> str:
    """An amount of CPU.

    >>> [cores(v) for v in (None, 0.0004, 0.034, 1.5, 120.4)]
    ['-', '0.000', '0.034', '1.50', '120.4']
    """
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def percent(part: float | None, whole: float | None) -> str:
    """A share; nothing where there is no whole."""
    return f"{part / whole:.0%}" if part is not None and whole else "-"


def change(before: float, after: float) -> str:
    """How much more or less, in words where a percentage says nothing.

    >>> [change(*pair) for pair in ((2.0, 3.0), (4.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.1, 2.0))]
    ['+50 %', '-75 %', 'new', 'gone', '20 times']
    """
    if not before or not after:
        return "new" if after else "gone"
    if after / before >= 10:
        return f"{after / before:.0f} times"
    return f"{(after / before - 1) * 100:+.0f} %"


def _numbers(usage: Usage) -> Iterable[tuple[str, str]]:
    total = usage.totals
    yield f"CPU: {cores(total['core_hours'])} core-hours", f"{cores(total['cores'])} cores"
    yield "memory in use, on average", size(total["memory_bytes"])
    yield "sent", size(total["sent_bytes"])
    yield "received", size(total["received_bytes"])
    yield "disk, read and written", size(_sum(total["read_bytes"], total["written_bytes"]))
    yield "containers seen", str(total["containers"])


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _with_names(teams: Sequence[Row]) -> list[Row]:
    return [row | {"key": row["key"] or NO_TEAM} for row in teams]


def _wastes(row: Row) -> bool:
    return bool(row["memory_reserved"] or row["cores_reserved"])


def _unlimited(usage: Usage) -> tuple[int, int, int]:
    """Containers without a limit for memory and for CPU, of how many."""
    of = sum(row["containers"] for row in usage.waste)
    memory = sum(row["without_memory_limit"] for row in usage.waste)
    return memory, sum(row["without_cpu_limit"] for row in usage.waste), of


def _saved(usage: Usage) -> tuple[float, float, float, float]:
    """Memory and CPU: reserved by all limits together, and never used even at the busiest."""

    def total(name: str) -> float:
        return float(sum(row[name] or 0 for row in usage.waste))

    return (
        total("memory_reserved"), total("memory_idle"), total("cores_reserved"),
        total("cores_idle"),
    )  # fmt: skip  # two pairs


def _step(usage: Usage) -> str:
    step = usage.growth.step
    if step is None:
        return ""
    return {7: "week", 1: "day"}.get(step.days, "hour")


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _moments(usage: Usage) -> Callable[[int], str]:
    """How times are written below a plot: with the date where it lasts days."""
    form = "%d %b %H:%M" if usage.lasted > timedelta(hours=20) else "%H:%M:%S"
    return lambda at_ns: f"{datetime(1970, 1, 1) + timedelta(seconds=at_ns / 1e9):{form}}"  # noqa: DTZ001  # UTC, as all here


# ---- rows for machines ---------------------------------------------------------------------


def _flat(usage: Usage, by: str, row: Row, growth: Row | None, waste: Row | None) -> Row:
    growth, waste = growth or {}, waste or {}
    return {
        "begins": _clock(usage.begins), "ends": _clock(usage.ends), "grouped_by": by,
        "key": row["key"], "team_label": row["label"] if by == "team" else None,
        "containers": row["containers"], "core_hours": row["core_hours"],
        "average_cores": row["cores"], "memory_byte_hours": row["byte_hours"],
        "average_memory_bytes": row["memory_bytes"], "sent_bytes": row["sent_bytes"],
        "received_bytes": row["received_bytes"], "disk_read_bytes": row["read_bytes"],
        "disk_written_bytes": row["written_bytes"],
        "growth_step": _step(usage) or None if growth else None,
        "cores_before": growth.get("cores_before"), "cores_after": growth.get("cores_after"),
        "memory_before": growth.get("memory_before"), "memory_after": growth.get("memory_after"),
        "sent_per_s_before": growth.get("sent_before"),
        "sent_per_s_after": growth.get("sent_after"),
        **{name: waste.get(name) for name in COLUMNS[-6:]},
    }  # fmt: skip  # by subject


def _summed(before: Row | None, row: Row) -> Row:
    """An image's roles together."""
    if before is None:
        return row
    return row | {name: _sum(before[name], row[name]) for name in COLUMNS[-6:]}


def as_json(usage: Usage) -> dict[str, Any]:
    """Everything that the page says, for machines."""
    growth = usage.growth
    return {
        "made": usage.made, "begins": usage.begins, "ends": usage.ends, "totals": usage.totals,
        "images": usage.images, "hosts": usage.hosts, "teams": usage.teams,
        "growth": {"step": _step(usage) or None, "next_known_from": growth.known_from,
                   "images": growth.rows},
        "waste": usage.waste, "unknown": usage.unknown,
    }  # fmt: skip  # by subject
