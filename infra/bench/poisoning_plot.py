"""Two panels side by side as SVG, without any script: what was sent, and the bound's way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

WIDTH: Final = 340
HEIGHT: Final = 250
LEFT: Final = 58
TOP: Final = 44
GAP: Final = 84
COLOURS: Final = ("#7a0177", "#c51b8a", "#f768a1", "#2171b5", "#6baed6", "#238b45", "#74c476")
GREYS: Final = ("#bdbdbd", "#969696", "#636363", "#252525")
HOURS: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
MEGABYTES: Final = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000)
KILOBYTES: Final = (10, 20, 50, 100)

Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Curve:
    """One way to send; ``caught`` where its end is a verdict, not the end of patience."""

    name: str
    steady: bool
    caught: bool
    hours: Sequence[float]
    sent_mb: Sequence[float]
    usual_kb_per_s: Sequence[float]


def drawn(curves: Sequence[Curve]) -> str:
    """The whole picture; the legend below counts its lines into the height."""
    lines = -(-len(curves) // 3)
    width, height = 2 * (LEFT + WIDTH) + GAP - 20, TOP + HEIGHT + 80 + 20 * lines
    right = WIDTH + GAP
    body = [
        *_panel(0, "MB sent before it is suspect", MEGABYTES, curves, "sent_mb"),
        *_panel(right, "kB/s: upper bound of the usual", KILOBYTES, curves, "usual_kb_per_s"),
        *_legend(curves),
    ]
    inner = "\n".join(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{inner}\n</svg>\n'
    )


def _log(ticks: Sequence[float], begin: float, end: float) -> Scale:
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def place(value: float) -> float:
        share = (math.log(max(value, 1e-9)) - low) / (high - low)
        return round(begin + min(max(share, 0.0), 1.0) * (end - begin), 1)

    return place


def _panel(
    shift: float, title: str, ticks: Sequence[float], curves: Sequence[Curve], column: str
) -> Iterator[str]:
    left = LEFT + shift
    x, y = _log(HOURS, left, left + WIDTH), _log(ticks, TOP + HEIGHT, TOP)
    yield f'<text x="{left}" y="{TOP - 16}" font-size="14" font-weight="bold">{title}</text>'
    for tick in ticks:
        yield f'<path d="M{left} {y(tick)}H{left + WIDTH}" stroke="#e5e5e5"/>'
        yield f'<text x="{left - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>'
    for tick in HOURS:
        place = f'x="{x(tick)}" y="{TOP + HEIGHT + 18}" text-anchor="middle"'
        yield f"<text {place}>{tick:g}</text>"
    middle = left + WIDTH / 2
    yield f'<text x="{middle}" y="{TOP + HEIGHT + 36}" text-anchor="middle">hours</text>'
    for curve, colour in zip(curves, _colours(curves), strict=True):
        values: Sequence[float] = getattr(curve, column)
        yield from _line(curve, colour, [
            (x(hours), y(value))
            for hours, value in zip(curve.hours, values, strict=True) if hours >= HOURS[0]
        ])  # fmt: skip  # the points in one go


def _line(curve: Curve, colour: str, points: Sequence[tuple[float, float]]) -> Iterator[str]:
    path = " ".join(f"{across},{down}" for across, down in points)
    dashes = ' stroke-dasharray="4 3"' if curve.steady else ""
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    if curve.caught and points:
        (across, down), arm = points[-1], 5
        yield (
            f'<path d="M{across - arm} {down - arm}l{2 * arm} {2 * arm}m0 {-2 * arm}'
            f'l{-2 * arm} {2 * arm}" stroke="{colour}" stroke-width="2.5"/>'
        )


def _legend(curves: Sequence[Curve]) -> Iterator[str]:
    for at, (curve, colour) in enumerate(zip(curves, _colours(curves), strict=True)):
        left, down = LEFT + at % 3 * 250, TOP + HEIGHT + 62 + at // 3 * 20
        plain = replace(curve, caught=False)
        yield from _line(plain, colour, [(left, down - 4), (left + 28, down - 4)])
        yield f'<text x="{left + 40}" y="{down}">{curve.name}</text>'
    below = TOP + HEIGHT + 62 + -(-len(curves) // 3) * 20
    yield f'<text x="{LEFT}" y="{below}">\u00d7: called suspect</text>'


def _colours(curves: Sequence[Curve]) -> list[str]:
    steady, rising = iter(GREYS * len(curves)), iter(COLOURS * len(curves))
    return [next(steady if curve.steady else rising) for curve in curves]
