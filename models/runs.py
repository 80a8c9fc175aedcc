"""Rows in runs: the samples of each container, the containers of each image.

Runs of equal length are stacked and handled by one call. What a run comes to depends on its
own rows alone, to the bit, whichever runs lie beside it: sums are added up row by row.
"""

from __future__ import annotations

import functools
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)

_FEW: Final = 8
"""Up to so many rows are added by as many calls; more by one, which takes longer to begin."""


class Runs:
    """``length``: (runs,), at least 1 each; run i's rows lie from ``first[i]`` to ``last[i]``."""

    def __init__(self, length: Whole) -> None:
        self.length = length
        longest = int(length.max(initial=0))
        self.single = longest <= 1
        self.each = longest if self.single or int(length.min()) == longest else 0
        """How long all of them are; 0 where they differ."""

    @classmethod
    def of_equal(cls, keys: Whole) -> tuple[Runs, Whole]:
        """Where neighbours have the same key they are one run; and the keys of the runs."""
        starts = np.empty(len(keys), bool)
        starts[:1] = True
        np.not_equal(keys[1:], keys[:-1], out=starts[1:])
        (first,) = starts.nonzero()
        if len(first) == len(keys):
            return cls(np.ones_like(first)), keys
        length = np.empty_like(first)
        length[:-1], length[-1] = first[1:] - first[:-1], len(keys) - first[-1]
        return cls(length), keys[first]

    def __len__(self) -> int:
        return len(self.length)

    @functools.cached_property
    def first(self) -> Whole:
        return np.arange(len(self.length)) if self.single else self._ends - self.length

    @functools.cached_property
    def last(self) -> Whole:
        return self.first if self.single else self._ends - 1

    @functools.cached_property
    def of(self) -> Whole:
        """The run of each row."""
        return self.first if self.single else np.arange(len(self.length)).repeat(self.length)

    @functools.cached_property
    def _ends(self) -> Whole:
        return self.length.cumsum()

    @functools.cached_property
    def stacks(self) -> list[tuple[Whole | slice, Whole]]:
        """For each length that there is: which runs have it, and the places of their rows,
        ``(length, runs)``.
        """
        if self.each:
            return [(slice(None), np.arange(self.each * len(self)).reshape(-1, self.each).T)]
        lengths = sorted(set(self.length.tolist()))
        alike = [(length, np.flatnonzero(self.length == length)) for length in lengths]
        return [(which, self.first[which] + np.arange(n)[:, None]) for n, which in alike]

    def spread(self, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """What there is one of for each run, for each of its rows."""
        return values if self.single else values.take(self.of, axis=0)

    def each_with(self, how: np.ufunc, values: Reals, own: Reals) -> Reals:
        """Rows, each together with what there is one of for its run, by a ufunc."""
        if self.single or not self.each:
            return np.asarray(how(values, self.spread(own)))
        side_by_side = values.reshape(-1, self.each, *values.shape[1:])
        return np.asarray(how(side_by_side, own[:, None]).reshape(values.shape))

    def ends(self, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """The last row of each run."""
        return values if self.single else values.take(self.last, axis=0)

    def side_by_side(self, values: npt.NDArray[Kind]) -> list[npt.NDArray[Kind]]:
        """The rows of each of the :attr:`stacks`, ``(length, runs, …)``. They lie in one piece
        row by row: numpy steps through them several times as fast as run by run.
        """
        if self.each:
            by_run = values.reshape(-1, self.each, *values.shape[1:])
            return [np.ascontiguousarray(by_run.swapaxes(0, 1))]
        return [values.take(places, axis=0) for _, places in self.stacks]

    def together(self, how: np.ufunc, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """Each run's rows as one, by a ufunc, from the first to the last."""
        if self.single:
            return values
        ones = [as_one(how, stack) for stack in self.side_by_side(values)]
        if len(ones) == 1:
            return ones[0]
        out = np.empty((len(self), *values.shape[1:]), values.dtype)
        for (which, _), one in zip(self.stacks, ones, strict=True):
            out[which] = one
        return out

    def most(self, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """The largest of each run's rows."""
        return self.together(np.maximum, values)

    def added_up(self, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """Sums within each run, up to each of its rows. Shape (rows,), both."""
        if self.single:
            return values
        out = np.empty_like(values)
        for _, places in self.stacks:
            out[places] = np.add.accumulate(values.take(places), axis=0)
        return out

    def middle(self, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """The upper median of each run. Shapes (rows,) and (runs,)."""
        if self.single:
            return values
        out = np.empty(len(self), values.dtype)
        for which, places in self.stacks:
            at = len(places) // 2
            out[which] = np.partition(values.take(places), at, axis=0)[at]
        return out


def as_one(how: np.ufunc, stack: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """Runs that lie side by side, ``(length, runs, …)``, each as one."""
    if len(stack) <= _FEW:
        total = stack[0]
        for row in stack[1:]:
            total = how(total, row)
        return np.asarray(total)
    if stack[0].size == 1:  # numpy would add these in pairs
        return np.asarray(how.accumulate(stack, axis=0)[-1])
    return np.asarray(how.reduce(stack, axis=0))
