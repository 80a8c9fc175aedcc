"""A labelled case's rows, and the answers to it: npz files without pickles.

A case file holds ``meta`` (JSON: name, period_s, merge_s, columns) and for each entity
``ENTITY/image``, ``ENTITY/train`` and ``ENTITY/test``, ``(rows, columns)``. Labels may lie
beside them: nothing here can read them. An answer file holds ``meta`` (JSON: budget, seconds)
and for each entity ``ENTITY/score`` and ``ENTITY/alarm``, ``(rows,)``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import orjson

from models.errors import MalformedRecord
from models.features import Array
from models.npz import DAMAGED

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of one entity: ``(rows,)`` each; a score is higher for what is stranger."""

    score: Array
    alarm: npt.NDArray[np.bool_]


class Cases:
    """An open case file: entities by image, rows when they are asked for.

    Raises: MalformedRecord, and nothing else, for a file that is no case file; its place is
    the array's name.
    """

    def __init__(self, file: IO[bytes]) -> None:
        try:
            self._arrays = np.load(file, allow_pickle=False)
        except DAMAGED as bad:
            raise MalformedRecord("undecodable", "not an npz file, or a damaged one") from bad
        if not isinstance(self._arrays, np.lib.npyio.NpzFile):
            raise MalformedRecord("undecodable", "one array, not an npz file")
        meta = self._meta()
        self.name = str(meta.get("name", ""))
        self.period_s = _positive(meta, "period_s")
        self.merge_s = _positive(meta, "merge_s")
        self.images = self._images()

    def _meta(self) -> Mapping[str, Any]:
        try:
            meta = orjson.loads(str(self._array("meta")))
        except orjson.JSONDecodeError as bad:
            raise MalformedRecord("undecodable", f"not JSON: {bad}", "meta") from bad
        if not isinstance(meta, dict):
            raise MalformedRecord("mistyped", "must be an object", "meta")
        return meta

    def _images(self) -> dict[str, tuple[str, ...]]:
        """Image → its entities, siblings of each other, in order of their names."""
        found: dict[str, tuple[str, ...]] = {}
        for name in sorted(file[:-5] for file in self._arrays.files if file.endswith("/test")):
            image = str(self._array(f"{name}/image"))
            found[image] = (*found.get(image, ()), name)
        if not found:
            raise MalformedRecord("empty", "no entity: no array is named ENTITY/test")
        return found

    def _array(self, name: str) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._arrays[name])
        except KeyError as bad:
            raise MalformedRecord("missing", "no such array in the file", name) from bad
        except DAMAGED as bad:
            raise MalformedRecord("undecodable", str(bad), name) from bad

    def rows(self, entity: str, part: str) -> Array:
        """``train`` or ``test`` of an entity, ``(rows, columns)``; NaN: nothing was measured."""
        place = f"{entity}/{part}"
        array = self._array(place)
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            found = f"{array.dtype} of shape {array.shape}"
            raise MalformedRecord("mistyped", f"{found}: expected numbers (rows, columns)", place)
        return array.astype(np.float64)

    def per_row(self, budget_per_day: float) -> float:
        """N false alarms an entity and day, as alarms a row."""
        return budget_per_day * self.period_s / _DAY_S

    @property
    def merge_rows(self) -> int:
        """Rows after an alarm that belong to its ticket."""
        return max(1, int(self.merge_s / self.period_s))


def _positive(meta: Mapping[str, Any], key: str) -> float:
    value = meta.get(key)
    if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise MalformedRecord("out-of-range", f"{value!r}: must be seconds, above 0", f"meta.{key}")
    return float(value)


def pack_answers(answers: Mapping[str, Answer], budget: float, seconds: float) -> bytes:
    """The answer file's bytes."""
    meta = orjson.dumps({"budget": budget, "seconds": seconds}).decode()
    arrays: dict[str, Any] = {"meta": np.array(meta)}
    for entity, answer in answers.items():
        arrays[f"{entity}/score"] = answer.score
        arrays[f"{entity}/alarm"] = answer.alarm
    target = io.BytesIO()
    np.savez_compressed(target, allow_pickle=False, **arrays)
    return target.getvalue()
