"""Labelled histories made up by a few rules: fleets of several kinds, as case files.

They were written before the first run and not changed for what came of it; nothing in the
detector knows of them. What is benign (a surge that siblings share, a deploy, a restart) stands
in them unlabelled beside what is labelled: a fault in one member that a person would want to
know of, from hardly visible to glaring.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from models.features import Array

MERGE_ROWS: Final = 60
DAY_S: Final = 86_400.0
SIZES: Final = (2.0, 30.0)
"""How many of a column's own deviations a fault is off, drawn evenly between the logarithms."""
WAYS: Final = ("spike", "step", "ramp", "restless", "silent")


@dataclass(frozen=True, slots=True)
class Kind:
    """``daily``, ``wander``, ``noise``: the amplitudes (logarithms) of the day's rhythm, of a load
    that siblings share and of what each column does alone. ``bursts``: share of rows in which a
    column is many times itself. ``counts``: small whole numbers. ``still``, ``missing``: shares of
    columns that hardly move, of values that were not measured. Happenings: a day and member
    (``faults``, ``restarts``) or image (``surges``, ``deploys``); ``echo``: share of the others
    that a fault shows in as well.
    """

    name: str
    period_s: float
    images: int
    siblings: int
    columns: int
    train_rows: int
    test_rows: int
    faults: float
    fault_rows: tuple[int, int] = (3, 40)
    daily: float = 0.3
    wander: float = 0.2
    noise: float = 0.15
    bursts: float = 0.002
    still: float = 0.2
    missing: float = 0.0
    counts: bool = False
    on_off: float = 0.0
    surges: float = 0.5
    deploys: float = 0.2
    restarts: float = 0.2
    echo: float = 0.0


KINDS: Final = (
    Kind("servers", 60, 5, 1, 30, 4_320, 5_760, 1.0, daily=0.5, bursts=0.005),
    Kind("replicas", 30, 1, 8, 15, 2_880, 5_760, 1.0, surges=1.5, deploys=0.5, missing=0.01),
    Kind("shop", 60, 10, 2, 19, 360, 720, 4.0, (3, 3), daily=0.1, still=0.4, echo=0.15),
    Kind("jobs", 60, 3, 3, 12, 2_880, 4_320, 1.0, wander=0.3, on_off=3.0, still=0.1),
    Kind("series", 300, 12, 1, 4, 2_016, 4_032, 0.2, (6, 200), daily=0.8, noise=0.3, still=0.0),
    Kind("calls", 0.1, 5, 4, 40, 1_200, 1_200, 720.0, (10, 60), daily=0.0, counts=True, still=0.5,
         surges=0.0, deploys=0.0, restarts=0.0),
)  # fmt: skip  # a table


def made_up(kind: Kind, seed: int) -> bytes:
    """A case file, with labels and events beside what `plimsoll evaluate` reads."""
    rng = np.random.default_rng([seed, *kind.name.encode()])
    meta = {"name": f"{kind.name}-{seed}", "period_s": kind.period_s,
            "merge_s": kind.period_s * MERGE_ROWS, "columns": kind.columns}  # fmt: skip  # a table
    arrays: dict[str, Any] = {"meta": np.array(orjson.dumps(meta).decode())}
    fleet = [_Image(kind, rng) for _ in range(kind.images)]
    members = [(image, at) for image in fleet for at in range(kind.siblings)]
    labels = np.zeros((len(members), kind.test_rows), np.int8)
    events = np.full(labels.shape, -1, np.int32)
    for number, (who, rows) in enumerate(_faults(kind, len(members), rng)):
        if labels[who, max(rows.start - MERGE_ROWS, 0) : rows.stop + MERGE_ROWS].any():
            continue  # one fault a ticket
        labels[who, rows], events[who, rows] = 1, number
        _befall(kind, members, who, rows, labels, rng)
    for number, (image, at) in enumerate(members):
        name = f"member-{number:02}"
        found = image.rows(at, rng)
        arrays[f"{name}/image"] = np.array(f"image-{fleet.index(image)}")
        arrays[f"{name}/train"] = found[: kind.train_rows].astype(np.float32)
        arrays[f"{name}/test"] = found[kind.train_rows :].astype(np.float32)
        arrays[f"{name}/label"], arrays[f"{name}/event"] = labels[number], events[number]
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    return target.getvalue()


class _Image:
    """What its members have in common; logarithms of all columns, until they are asked for."""

    def __init__(self, kind: Kind, rng: np.random.Generator) -> None:
        self.kind = kind
        whole = kind.train_rows + kind.test_rows
        self.base = rng.uniform(-1.0, 4.0, kind.columns) if kind.counts else rng.uniform(
            0.0, 12.0, kind.columns
        )  # fmt: skip  # one choice
        self.follows = rng.uniform(0.0, 1.0, kind.columns) * (rng.random(kind.columns) < 0.7)
        self.still = rng.random(kind.columns) < kind.still
        self.restless = kind.noise * np.exp(rng.normal(0.0, 0.5, kind.columns))
        day = np.arange(whole) * kind.period_s / DAY_S
        self.load = kind.daily * np.sin(math.tau * (day + rng.random())) + _wander(
            whole, kind.wander, 60.0, rng
        )
        shift = np.zeros((whole, kind.columns))
        for row in _times(kind, kind.deploys, whole, rng):
            shift[row:] += rng.normal(0.0, 0.2, kind.columns) * (rng.random(kind.columns) < 0.3)
        for row in _times(kind, kind.surges, whole, rng):
            self.load[row : row + int(rng.integers(5, 60))] += rng.uniform(0.3, 1.2)
        self.members = [self._member(whole, shift, rng) for _ in range(kind.siblings)]

    def _member(self, whole: int, shift: Array, rng: np.random.Generator) -> Array:
        kind = self.kind
        load = self.load + _wander(whole, 0.5 * kind.wander, 20.0, rng)
        if kind.on_off:
            load = load + kind.on_off * _working(whole, rng)
        alone = rng.normal(0.0, 1.0, (whole, kind.columns)) * self.restless
        wild = rng.random(alone.shape) < kind.bursts
        alone += wild * rng.exponential(1.0, alone.shape)
        moving = self.base + shift + load[:, None] * self.follows + alone
        rows = np.where(self.still, self.base, moving + rng.normal(0.0, 0.1, kind.columns))
        for row in _times(kind, kind.restarts, whole, rng):
            until = row + int(rng.integers(2, 6))
            rows[row:until] -= np.linspace(3.0, 0.5, len(rows[row:until]))[:, None] * ~self.still
        return np.asarray(rows)

    def rows(self, at: int, rng: np.random.Generator) -> Array:
        """What was measured of a member."""
        values = np.exp(np.minimum(self.members[at], 30.0))
        if self.kind.counts:
            values = np.log1p(rng.poisson(values))
        if self.kind.missing:
            values[rng.random(values.shape) < self.kind.missing] = np.nan
        return np.asarray(values)


def _wander(rows: int, spread: float, memory: float, rng: np.random.Generator) -> Array:
    """Slow noise of that spread which is forgotten in so many rows."""
    kept, level, out = math.exp(-1.0 / memory), 0.0, np.empty(rows)
    steps = rng.normal(0.0, spread * math.sqrt(1.0 - kept**2), rows)
    for at, step in enumerate(steps.tolist()):
        level = kept * level + step
        out[at] = level
    return out


def _working(rows: int, rng: np.random.Generator) -> Array:
    """Jobs of 20 to 120 rows, as long between them: 0 or 1 a row."""
    lengths = rng.integers(20, 120, rows // 20 + 2)
    return np.repeat(np.arange(len(lengths)) % 2, lengths)[:rows].astype(float)


def _times(kind: Kind, a_day: float, whole: int, rng: np.random.Generator) -> list[int]:
    happen = rng.poisson(a_day * whole * kind.period_s / DAY_S)
    return sorted(rng.integers(0, whole, happen).tolist())


def _faults(kind: Kind, members: int, rng: np.random.Generator) -> Iterator[tuple[int, slice]]:
    """Who, and in which rows of the test; never in the first of them."""
    for who in range(members):
        for row in _times(kind, kind.faults, kind.test_rows - 2 * MERGE_ROWS, rng):
            length = int(rng.integers(kind.fault_rows[0], kind.fault_rows[1] + 1))
            start = row + MERGE_ROWS
            yield who, slice(start, min(start + length, kind.test_rows))


def _befall(
    kind: Kind, members: list[tuple[_Image, int]], who: int, rows: slice, labels: Any,
    rng: np.random.Generator,
) -> None:  # fmt: skip  # two lines say as much
    """One member differs in some columns; where it echoes, others do by a third, and while it
    lasts nobody knows whether to call them (label -1).
    """
    image, at = members[who]
    way = WAYS[int(rng.integers(len(WAYS)))]
    off = math.exp(rng.uniform(math.log(SIZES[0]), math.log(SIZES[1])))
    columns = rng.permutation(kind.columns)[: int(rng.integers(1, max(kind.columns // 3, 2) + 1))]
    _change(kind, image, at, rows, columns, way, off, rng)
    if kind.echo:
        echoes = labels[:, rows]
        echoes[echoes == 0] = -1
        for other in np.flatnonzero(rng.random(len(members)) < kind.echo).tolist():
            if other != who:
                their, place = members[other]
                _change(kind, their, place, rows, columns, way, off / 3.0, rng)


def _change(
    kind: Kind, image: _Image, at: int, rows: slice, columns: Any, way: str, off: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip  # two lines say as much
    part = image.members[at][kind.train_rows + rows.start : kind.train_rows + rows.stop]
    size = off * np.where(image.still, kind.noise, image.restless)[columns]
    length = len(part)
    if way == "spike":
        part[: max(length // 4, 1), columns] += size
    elif way == "step":
        part[:, columns] += size * rng.choice([-1.0, 1.0], len(columns))
    elif way == "ramp":
        part[:, columns] += np.linspace(0.0, 1.0, length)[:, None] * size
    elif way == "restless":
        part[:, columns] += rng.normal(0.0, 1.0, (length, len(columns))) * size
    else:
        part[:, columns] -= np.minimum(size * 3.0, 8.0)
