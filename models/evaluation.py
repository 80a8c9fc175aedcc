"""A case of labelled histories, answered as if it were watched live.

All entities are watched side by side. Siblings, those of one image, pool what they learn; images
share nothing but a ticket, where many depart at once. Alarms are onsets past a line, N a day
(models/watch.py); scores rank the rows of all images by what no history held
(models/detectors/nearest.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.budget import Flags
from models.detectors import nearest
from models.detectors.nearest import Memory
from models.errors import MalformedRecord
from models.features import Array
from models.records.cases import Answer, Cases
from models.scale import measured
from models.watch import Watch, as_seen, judge_together, learn, uncopied

_AT_ONCE = 1024
_ONSET = 0.05
"""What a margin adds to how strange a row is: of two as strange, the one that has just come."""


@dataclass(frozen=True, slots=True)
class Step:
    """Rows judged since the last step; answers once an image is through."""

    rows: int
    answers: dict[str, Answer]


def rows_of(cases: Cases) -> int:
    """How many rows there are to learn from and to judge."""
    return sum(
        len(cases.rows(entity, part))
        for entities in cases.images.values()
        for entity in entities
        for part in ("train", "test")
    )


def evaluate(cases: Cases, budget_per_day: float) -> Iterator[Step]:
    """Learn each image from its entities' ``train``, then judge their ``test`` in order.

    ``budget_per_day``: false alarms allowed, an entity and day of event time.

    Raises: MalformedRecord when siblings differ in their columns.
    """
    watched = []
    for image, entities in cases.images.items():
        watched.append(_learned(cases, image, entities, cases.per_row(budget_per_day)))
        yield Step(sum(len(cases.rows(entity, "train")) for entity in entities), {})
    for start in range(0, max(len(one.rows) for one in watched), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        told = judge_together([one.watch for one in watched], [one.rows[part] for one in watched])
        for one, (margins, alarms) in zip(watched, told, strict=True):
            strange = one.memory.strangeness(one.watch.known.scale.seen(measured(one.rows[part])))
            one.scores[part] = strange + _ONSET * margins
            one.alarms[part] = alarms
            yield Step(sum(max(min(rows - start, _AT_ONCE), 0) for rows in one.lengths), {})
    yield Step(0, {
        entity: Answer(one.scores[:rows, at], one.alarms[:rows, at])
        for one in watched
        for at, (entity, rows) in enumerate(zip(one.entities, one.lengths, strict=True))
    })  # fmt: skip  # one entity a line


@dataclass(frozen=True, slots=True)
class _Watched:
    """An image, what is to be judged of it side by side, and what was said so far."""

    watch: Watch
    memory: Memory
    entities: Sequence[str]
    lengths: Sequence[int]
    rows: Array
    scores: Array
    alarms: Flags


def _learned(cases: Cases, image: str, entities: Sequence[str], per_row: float) -> _Watched:
    histories = [cases.rows(entity, "train") for entity in entities]
    tests = [cases.rows(entity, "test") for entity in entities]
    columns = {rows.shape[1] for rows in [*histories, *tests]}
    if len(columns) != 1 or 0 in columns:
        problem = f"entities of image {image!r} with {sorted(columns)} columns"
        raise MalformedRecord("mistyped", problem, f"{entities[0]}/train")
    watch = learn(histories, per_row, cases.merge_rows)
    seen = as_seen(watch.known.scale, histories)
    memory = nearest.learned([seen[at] for at in uncopied(seen)], histories[0].shape[1])
    rows = _side_by_side(tests)
    scores, alarms = np.empty(rows.shape[:2]), np.zeros(rows.shape[:2], bool)
    return _Watched(watch, memory, entities, list(map(len, tests)), rows, scores, alarms)


def _side_by_side(tests: list[Array]) -> Array:
    """``(rows, members, columns)``; who ends earlier is absent from then on."""
    rows = np.full((max(map(len, tests)), len(tests), tests[0].shape[1]), np.nan)
    for at, test in enumerate(tests):
        rows[: len(test), at] = test
    return rows
