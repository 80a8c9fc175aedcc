"""Lineages side by side: the arrays of all their members as one, so that what is done to each
is done to all by one call.

A crowd's arrays are those of its states: each state's are the slice of its own rows. Whoever
judges a single container goes by its state, whoever judges many by the crowd; both see what
the other did.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np

from models import baseline
from models.baseline import Baseline
from models.features import Array
from models.lineage import Image, LineageState
from models.members import ARRAYS, Members, Single, Whole

_ALL: Final = slice(None)


@dataclass(slots=True)
class Crowd:
    """Rows ``start[i]`` to ``start[i + 1]`` of every array are the members of ``states[i]``,
    ``images[first_slot[i]]`` to ``images[first_slot[i + 1]]`` its images. ``slot``: of each
    member, which of the ``images`` it runs; ``host``: of each image, whose it is.
    """

    states: Sequence[LineageState]
    images: list[Image]
    start: Whole
    first_slot: Whole
    host: Whole
    slot: Whole
    grid: Array
    last_ns: Whole
    since_ns: Whole
    taught: Array
    peak: Array
    surprise: Array
    followed: Single
    account: Array
    _changes: list[int]
    _baselines: list[Baseline]
    _usual: Array

    @classmethod
    def of(cls, states: Sequence[LineageState]) -> Crowd:
        """Their members side by side: arrays of theirs become slices of its own."""
        counts = [len(state.members) for state in states]
        start = np.cumsum([0, *counts])
        members, starts = [state.members for state in states], start.tolist()
        arrays = {name: _joined(members, name, starts) for name in ARRAYS}
        images = [list(state.images.values()) for state in states]
        first_slot = np.cumsum([0, *map(len, images)])
        host = np.arange(len(states)).repeat(np.diff(first_slot))
        slot = first_slot[:-1].repeat(counts)
        for at, own in enumerate(images):
            if len(own) > 1:
                place = {image.name: first_slot[at] + of for of, image in enumerate(own)}
                who = states[at].members.who
                slot[start[at] : start[at + 1]] = [place[member.image] for member in who]
        changes = [state.members.changes for state in states]
        whole = list(chain.from_iterable(images))
        baselines = [image.baseline for image in whole]
        return cls(states, whole, start, first_slot, host, slot, **arrays, _changes=changes,
                   _baselines=baselines, _usual=baseline.usual(baselines))  # fmt: skip  # one call

    def __len__(self) -> int:
        return len(self.slot)

    def still(self, states: Sequence[LineageState]) -> bool:
        """Whether these are its states, or the first of them, and nobody came, went or changed
        images meanwhile.
        """
        mine = self.states[: len(states)]
        if not all(map(operator.is_, mine, states)):
            return False
        images = list(chain.from_iterable(state.images.values() for state in states))
        slots = self.images[: self.first_slot[len(states)]]
        if len(images) != len(slots) or not all(map(operator.is_, images, slots)):
            return False
        return [state.members.changes for state in states] == self._changes[: len(states)]

    def first(self, count: int) -> Crowd:
        """The first of its states alone."""
        if count == len(self.states):
            return self
        rows, slots = slice(int(self.start[count])), slice(int(self.first_slot[count]))
        arrays = {name: getattr(self, name)[rows] for name in ARRAYS}
        return Crowd(
            self.states[:count], self.images[slots], self.start[: count + 1],
            self.first_slot[: count + 1], self.host[slots], self.slot[rows], **arrays,
            _changes=self._changes[:count], _baselines=self._baselines[slots],
            _usual=self._usual[slots],
        )  # fmt: skip  # in the order of the class

    @property
    def usual(self) -> Array:
        """What each image's baseline says: ``(images, Baseline.usual's rows, features)``."""
        known, images = self._baselines, self.images
        other = [at for at, image in enumerate(images) if image.baseline is not known[at]]
        if other:
            anew = [images[at].baseline for at in other]
            self._usual[other] = baseline.usual(anew)
            for at, one in zip(other, anew, strict=True):
                known[at] = one
        return self._usual

    def trust(self, rows: Whole | slice = _ALL) -> Array:
        """How far a container's own level is known, 0 to 1. Shape (rows,)."""
        taught = self.taught[rows]
        return np.asarray(taught / (taught + 2.0))


def _joined(members: list[Members], name: str, start: list[int]) -> Any:
    parts = [getattr(one, name) for one in members]
    if len(parts) == 1:
        return parts[0]
    whole = np.concatenate(parts)
    for at, one in enumerate(members):
        setattr(one, name, whole[start[at] : start[at + 1]])
    return whole
