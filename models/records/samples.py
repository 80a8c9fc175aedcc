"""A table of samples: one row for each container (or host) at one time, column by column."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt

from models.errors import MalformedRecord
from models.records import checks
from models.records.codec import encode

Columns = Annotated[npt.NDArray[np.float64], "columns"]
"""Shape (features, rows); a missing measurement is NaN here and null on the wire."""
Integers = Annotated[npt.NDArray[np.int64], "integers"]
"""Shape (rows,)."""
MOST_FEATURES = 256
MOST_ROWS = 20_000


_FEW: Final = 256
"""Subjects of so few come again with every batch of a lineage, and are checked once."""
_SHORT: Final = 16
"""Up to so many numbers numpy's calls take longer than Python's."""


def _check_names(subjects: tuple[str, ...]) -> None:
    for at, subject in enumerate(subjects):
        checks.name(subject, f"subjects[{at}]")


def _check_features(features: tuple[str, ...]) -> None:
    if len(features) > MOST_FEATURES or len(set(features)) < len(features):
        problem = f"must be at most {MOST_FEATURES} different names"
        raise MalformedRecord("out-of-range", problem, "features")


_known_names = functools.lru_cache(8_192)(_check_names)  # what is refused is not remembered
_known_features = functools.lru_cache(256)(_check_features)


def _extent(numbers: Integers) -> tuple[int, int]:
    """The least and the greatest."""
    if numbers.size <= _SHORT:
        few = numbers.tolist()
        return min(few), max(few)
    return int(numbers.min()), int(numbers.max())


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """``columns[f, i]`` is feature ``features[f]`` of ``subjects[index[i]]`` at ``times_ns[i]``.

    Features are mapped by name (``models/features.py`` knows their units); a missing
    measurement is NaN, never 0. A subject is a container's full id, or ``host/MACHINE-ID``.
    """

    features: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    index: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    times_ns: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    columns: Columns = field(default_factory=lambda: np.empty((0, 0)))
    extent_ns: tuple[int, int] = field(init=False, default=(0, 0))
    """The earliest and the latest of ``times_ns``."""

    def __post_init__(self) -> None:
        rows = self.index.size
        self._fits(rows)
        if rows:
            object.__setattr__(self, "extent_ns", _extent(self.times_ns))
            self._holds()

    def _fits(self, rows: int) -> None:
        if rows > MOST_ROWS:
            raise MalformedRecord("oversized", f"{rows} rows, at most {MOST_ROWS}", "index")
        few = len(self.features) <= MOST_FEATURES
        (_known_features if few else _check_features)(self.features)
        if self.times_ns.size != rows:
            problem = f"{self.times_ns.size} values for {rows} rows"
            raise MalformedRecord("mistyped", problem, "times_ns")
        if rows and self.columns.shape != (len(self.features), rows):
            expected = f"expected {len(self.features)} columns of {rows} values"
            raise MalformedRecord("mistyped", f"{expected}, found {self.columns.shape}", "columns")

    def _holds(self) -> None:
        few = len(self.subjects) <= _FEW
        (_known_names if few else _check_names)(self.subjects)
        first, last = _extent(self.index)
        if not 0 <= first <= last < len(self.subjects):
            problem = f"must point into {len(self.subjects)} subjects"
            raise MalformedRecord("out-of-range", problem, "index")
        for time_ns in self.extent_ns:
            checks.time(time_ns, "times_ns")
        # Of each row the number furthest out: NaN where there is none.
        furthest = np.fmax.reduce(np.abs(self.columns), axis=0, initial=np.nan)
        if not np.maximum.reduce(furthest) < np.inf:
            raise self._unfit(furthest)

    def _unfit(self, furthest: Columns) -> MalformedRecord:
        empty = np.isnan(furthest)
        if empty.any():
            place = f"columns[:][{int(empty.argmax())}]"
            return MalformedRecord("empty", "a row without a single measurement", place)
        place = f"columns[{int(np.isinf(self.columns).any(axis=1).argmax())}]"
        return MalformedRecord("out-of-range", "a number that is not finite", place)

    def __len__(self) -> int:
        return int(self.index.size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Samples) and encode(self) == encode(other)

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def column(self, feature: str) -> Columns:
        """The values of one feature, NaN where it was not measured. Shape (rows,)."""
        if feature in self.features:
            found: Columns = self.columns[self.features.index(feature)]
            return found
        return np.full(len(self), np.nan)
