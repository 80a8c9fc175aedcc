"""A case of labelled histories, answered as if it were watched live.

Siblings, those of one image, are watched side by side and pool what they learn; images know
nothing of each other. Alarms are onsets past a line, N a day (models/watch.py); scores rank the
rows of all images, by what their histories never held (models/detectors/nearest.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models import scale
from models.detectors import nearest
from models.errors import MalformedRecord
from models.features import Array
from models.records.cases import Answer, Cases
from models.watch import judge, learn, uncopied

_AT_ONCE = 1024


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
    for image, entities in cases.images.items():
        histories = [cases.rows(entity, "train") for entity in entities]
        tests = [cases.rows(entity, "test") for entity in entities]
        columns = {rows.shape[1] for rows in [*histories, *tests]}
        if len(columns) != 1 or 0 in columns:
            problem = f"entities of image {image!r} with {sorted(columns)} columns"
            raise MalformedRecord("mistyped", problem, f"{entities[0]}/train")
        watch = learn(histories, cases.per_row(budget_per_day), cases.merge_rows)
        unit = watch.known.scale
        seen = [
            unit.seen(scale.measured(history)[:, None])[:, at]
            for at, history in enumerate(histories)
        ]
        memory = nearest.learned([seen[at] for at in uncopied(seen)], histories[0].shape[1])
        yield Step(sum(map(len, histories)), {})
        rows = _side_by_side(tests)
        scores, alarms = np.empty(rows.shape[:2]), np.zeros(rows.shape[:2], bool)
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            _, alarms[part] = judge(watch, rows[part])
            scores[part] = memory.strangeness(unit.seen(scale.measured(rows[part])))
            yield Step(sum(len(test[part]) for test in tests), {})
        yield Step(0, {
            entity: Answer(scores[: len(test), at], alarms[: len(test), at])
            for at, (entity, test) in enumerate(zip(entities, tests, strict=True))
        })  # fmt: skip  # one entity a line


def _side_by_side(tests: list[Array]) -> Array:
    """``(rows, members, columns)``; who ends earlier is absent from then on."""
    rows = np.full((max(map(len, tests)), len(tests), tests[0].shape[1]), np.nan)
    for at, test in enumerate(tests):
        rows[: len(test), at] = test
    return rows
