"""Small plots of a container's telemetry around an incident, as SVG without any script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.records.telemetry import Batch

WIDTH: Final = 320
HEIGHT: Final = 96
MOST_POINTS: Final = 600
PREFERRED: Final = (
    "network_transmit_bytes_per_s", "cpu_cores", "memory_working_set_bytes",
    "network_receive_bytes_per_s", "network_connections_opened_per_s", "processes",
)  # fmt: skip  # a list to read across

Points = Sequence[tuple[int, float]]
"""Time in ns and value, in order."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Ready for the page: paths in a box of WIDTH by HEIGHT, and what stands around it."""

    feature: str
    line: str
    band_y: float
    band_height: float
    marks: tuple[tuple[float, str], ...]
    highest: str
    begins_ns: int
    ends_ns: int


def series(batches: Iterable[Batch], subject: str) -> dict[str, list[tuple[int, float]]]:
    """One subject's columns by feature, without gaps."""
    found: dict[str, dict[int, float]] = {}
    for batch in batches:
        samples = batch.samples
        if subject not in samples.subjects:
            continue
        rows = np.flatnonzero(samples.index == samples.subjects.index(subject))
        for number, feature in enumerate(samples.features):
            column = found.setdefault(feature, {})
            for row in rows:
                value = float(samples.columns[number, row])
                if np.isfinite(value):
                    column[int(samples.times_ns[row])] = value
    return {feature: sorted(column.items()) for feature, column in found.items() if column}


def plots(
    columns: Mapping[str, Points], usual: Mapping[str, tuple[float, float]],
    marks: Sequence[tuple[int, str]], most: int = 6,
) -> list[Plot]:  # fmt: skip  # two lines say as much
    """What the reasons speak of first, then what everybody asks for; all over the same time,
    so that what lies above each other happened together.
    """
    wanted = [*usual, *PREFERRED, *sorted(columns)]
    names = [name for name in dict.fromkeys(wanted) if len(columns.get(name, ())) > 1][:most]
    times = [at_ns for name in names for at_ns in (columns[name][0][0], columns[name][-1][0])]
    return [
        _plot(name, columns[name], usual.get(name), marks, (min(times), max(times)))
        for name in names
    ]


def usual_of(evidences: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """The usual interval by feature, as the alert's reasons give it."""
    found = {}
    for one in evidences:
        data = one["data"]
        if data.get("feature") and data.get("usual_high") is not None:
            found[str(data["feature"])] = (
                float(data.get("usual_low") or 0), float(data["usual_high"])
            )  # fmt: skip  # one pair
    return found


def _plot(
    name: str, points: Points, usual: tuple[float, float] | None,
    marks: Sequence[tuple[int, str]], span: tuple[int, int],
) -> Plot:  # fmt: skip  # two lines say as much
    points = _thinned(points)
    begin, end = span
    top = max(*(value for _, value in points), usual[1] if usual else 0.0) * 1.08 or 1.0

    def x(at_ns: int) -> float:
        return round((at_ns - begin) / max(end - begin, 1) * WIDTH, 1)

    def y(value: float) -> float:
        return round(HEIGHT - max(value, 0.0) / top * HEIGHT, 1)

    line = " ".join(f"{x(at_ns)},{y(value)}" for at_ns, value in points)
    low, high = usual or (0.0, 0.0)
    drawn = tuple((x(at_ns), kind) for at_ns, kind in marks if begin <= at_ns <= end)
    return Plot(
        name, line, y(high), round(y(low) - y(high), 1) if usual else 0.0, drawn,
        human(max(value for _, value in points)), begin, end,
    )  # fmt: skip  # as the fields lie


def _thinned(points: Points) -> Points:
    """At most MOST_POINTS; of each stretch the highest, so that no peak is lost."""
    step = -(-len(points) // MOST_POINTS)
    if step < 2:
        return points
    return [max(points[i : i + step], key=lambda p: p[1]) for i in range(0, len(points), step)]


def human(value: float) -> str:
    """A number for a small space.

    >>> [human(v) for v in (0.25, 48e6, 150_000, 1234.0, 0.0)]
    ['0.25', '48M', '150k', '1.2k', '0']
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.{0 if abs(value) >= 10 * limit else 1}f}{unit}"
    return f"{value:.3g}"
