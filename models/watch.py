"""Any image's members, any columns: learn from a history, then judge row by row.

One configuration for all: nothing here depends on a name, a number of columns or a period,
but for the budget, which is given per row. Rows are judged in order, siblings side by side;
the same rows give the same bits however they are cut into calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models import scale
from models.budget import BLOCK_ROWS, Flags, Line, Tail, accounts, tail_of
from models.detectors import distance, residual, unseen
from models.detectors.base import combined
from models.detectors.residual import Residual
from models.detectors.unseen import Range
from models.errors import ShapeMismatch
from models.features import Array
from models.following import Followed, anew, follow, settled
from models.scale import Scale

NEAR: Final = 2
"""Horizons of which the distance speaks; the slowest is the residual's alone."""
_AT_ONCE: Final = 256
_MANY: Final = 3
_MANY_SHARE: Final = 0.25
"""So many images, and such a share of all that are watched side by side, are an application that
departs as a whole."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a history teaches of one image: never changes while it is watched."""

    scale: Scale
    residual: Residual


@dataclass(slots=True)
class Watch:
    """An image under watch; members side by side, in the order of their histories."""

    known: Known
    followed: Followed
    range: Range
    line: Line
    accounts: Array


@dataclass(frozen=True, slots=True)
class Taught:
    """What histories come to: what is ``known``, the ``range`` (1, columns) that they have shown,
    the ``tail`` of their block maxima.
    """

    known: Known
    range: Range
    tail: Tail


def learn(histories: Sequence[Array], per_row: float, merge_rows: int) -> Watch:
    """A watch over the members whose histories these are: see :func:`taught`.

    ``per_row``: false alarms allowed, of one member in one row; ``merge_rows``: rows after an
    alarm that belong to its ticket.
    """
    found, members = taught(histories), len(histories)
    each = (np.repeat(edge, members, axis=0) for edge in (found.range.low, found.range.high))
    start = anew(settled(members, len(found.known.scale.spread)))
    line = Line(per_row, merge_rows, found.tail)
    return Watch(found.known, start, Range(*each), line, accounts(members))


def taught(histories: Sequence[Array]) -> Taught:
    """What the histories of one image's members teach at once: ``(rows, columns)`` each, NaN where
    nothing was measured, any of them empty. They are taken as quiet.

    Raises: ShapeMismatch without a member, or when members differ in their columns.
    """
    columns = {history.shape[1:] for history in histories}
    if len(columns) != 1 or len(next(iter(columns))) != 1:
        raise ShapeMismatch(f"histories of {sorted(columns)} columns: members of one image share")
    size = next(iter(columns))[0]
    clean = [scale.measured(history) for history in histories]
    unit = scale.learned(clean)
    seen = as_seen(unit, clean)
    distinct = uncopied(seen)
    offs = [follow(settled(1, size), seen[at][:, None])[1][:, 0] for at in distinct]
    known = Known(unit, residual.learned(np.concatenate(offs)))
    peaks: list[float] = []
    for off, at in zip(offs, distinct, strict=True):
        others = [seen[other] for other in distinct if other != at]
        peaks += _peaks(known, off, seen[at], others)
    return Taught(known, unseen.seen_in(seen, size), tail_of(peaks))


def as_seen(unit: Scale, histories: Sequence[Array]) -> list[Array]:
    """Each member's history on the scale that its detectors see."""
    return [unit.seen(scale.measured(rows)[:, None])[:, at] for at, rows in enumerate(histories)]


def uncopied(seen: Sequence[Array]) -> list[int]:
    """A history handed over twice is no more history."""
    kept: list[int] = []
    for at, rows in enumerate(seen):
        if not any(np.array_equal(rows, seen[other], equal_nan=True) for other in kept):
            kept.append(at)
    return kept


def _peaks(known: Known, off: Array, seen: Array, others: Sequence[Array]) -> list[float]:
    """Block maxima of one history's evidence. What is unseen is what no sibling has shown, or
    without one what its own first half has not.
    """
    half = 0 if others else len(seen) // 2
    before = unseen.seen_in([*others, seen[:half]], seen.shape[1])
    _, past = unseen.beyond(before, seen[half:, None])
    past = np.concatenate([np.zeros(half), past[:, 0]])
    told = evidence(known.residual, off, past)
    blocks = told[len(told) % BLOCK_ROWS :].reshape(-1, BLOCK_ROWS)
    return [float(peak) for peak in blocks.max(axis=1)]


def evidence(unusual: Residual, off: Array, past: Array) -> Array:
    """Departures (…, horizons, columns) and what lies beyond all seen (…) → evidence (…)."""
    far = distance.farthest(off[..., :NEAR, :])
    return combined(far, unusual.distance(off), past)


def judge(watch: Watch, rows: Array) -> tuple[Array, Flags]:
    """Judge the next rows of one image; see :func:`judge_together`."""
    return judge_together([watch], [rows])[0]


def judge_together(watches: Sequence[Watch], rows: Sequence[Array]) -> list[tuple[Array, Flags]]:
    """Judge the next rows of images that are watched side by side, each ``(rows, members,
    columns)``; a row of NaN alone is an absent member, and an image may end before others.

    The watches move on. Returns for each image ``(rows, members)``: how far each row's evidence
    lies above the line (negative: below; finite; an absent member's is the lowest) and whether
    it alarms. What a row gets depends on the rows of its time and before alone. Where many
    images depart at once, the one farthest above its line calls for all.

    Raises: ShapeMismatch for other members or columns than were learned.
    """
    for watch, given in zip(watches, rows, strict=True):
        if given.shape[1:] != watch.known.scale.location.shape:
            raise ShapeMismatch(
                f"rows of {given.shape[1:]} members and columns, "
                f"{watch.known.scale.location.shape} were learned"
            )
    told = [(np.full(given.shape[:2], NOTHING), np.zeros(given.shape[:2], bool)) for given in rows]
    longest = max(map(len, rows), default=0)
    for start in range(0, longest, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        weighed = [_weighed(watch, given[part]) for watch, given in zip(watches, rows, strict=True)]
        for row in range(min(_AT_ONCE, longest - start)):
            now = [at for at, weights in enumerate(weighed) if row < len(weights)]
            farthest = _farthest([(watches[at], weighed[at][row]) for at in now], len(watches))
            for place, at in enumerate(now):
                watch, (margins, alarms) = watches[at], told[at]
                merged = farthest is not None and place != farthest
                found, called = watch.line.judge(watch.accounts, weighed[at][row], merged=merged)
                margins[start + row] = np.where(np.isnan(found), NOTHING, found)
                alarms[start + row] = called
    return told


def _weighed(watch: Watch, rows: Array) -> Array:
    """The evidence of each row and member, NaN where one is absent."""
    seen = watch.known.scale.seen(scale.measured(rows))
    watch.followed, off = follow(watch.followed, seen)
    watch.range, past = unseen.beyond(watch.range, seen)
    weights = evidence(watch.known.residual, off, past)
    weights[np.isnan(seen).all(axis=2)] = np.nan
    return weights


def _farthest(now: Sequence[tuple[Watch, Array]], images: int) -> int | None:
    """Which image's ticket stands for all in this row; None: each opens its own."""
    if images < _MANY:
        return None
    tops = [watch.line.departing(watch.accounts, weights) for watch, weights in now]
    many = sum(top > 0.0 for top in tops) >= max(_MANY, _MANY_SHARE * images)
    return tops.index(max(tops)) if many else None


NOTHING: Final = -math.log(1e12)
"""The margin of a row that holds no measurement."""
