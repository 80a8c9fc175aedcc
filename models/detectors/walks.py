"""Where a row's walk down each tree of a forest ends, for all trees at once.

Trees are complete binary trees in heap order: a value beyond the threshold goes right. There
are no child pointers, so no file can send a walk out of bounds.

This follows QuickScorer with rank tables. The forest's thresholds of one feature are sorted
once; a value's rank among them picks a table row that holds, for each leaf of the forest,
whether that feature still allows it. ANDed over the features, of each tree one leaf is left.

A table row is made of words of 64 leaves, and what a row of data costs is mostly fetching
those. So words are filled up: trees share them, a tree may be cut over several. What one tree
has in one word is a lane; where the walk ends in another lane, this one has the number 64.

Source: C. Lucchese et al., "QuickScorer", SIGIR 2015.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.features import Array

Single = npt.NDArray[np.float32]
Small = npt.NDArray[np.int16]
Sets = npt.NDArray[np.uint64]
Whole = npt.NDArray[np.int64]
Keys = npt.NDArray[np.complex64]
Flags = npt.NDArray[np.bool_]

_WIDTH: Final = 64
SLOTS: Final = 256
"""Of a lane: so a slot's lowest byte is the leaf's number in it."""
_LOWEST_BYTE: Final = 0 if sys.byteorder == "little" else 7
_ONE: Final = np.array(1, np.uint64)
_MOST_SHARING: Final = 4
_WORD_IN_LANES: Final = 3
"""What a word costs a row, measured in lanes."""
_FETCHED: Final = 1024
_BLOCK: Final = 128
"""Rows at a time, of the table and of the answer: more leave the cache, fewer waste calls."""
_FEW: Final = 40
"""Up to so many rows are quicker with fewer calls of numpy, each of which does more."""
_CELLS: Final = 4096
_LEAST_SPAN: Final = 1e-20


def settled(leaf: Array) -> Array:
    """The path length of each node from which on nothing is decided any more: of leaves, and
    of splits between equal ones. NaN elsewhere. Shape (trees, nodes).
    """
    levels = [leaf]
    while levels[-1].shape[1] > 1:
        left, right = levels[-1][:, ::2], levels[-1][:, 1::2]
        levels.append(np.where(left == right, left, np.nan))
    return np.concatenate(levels[::-1], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Walks:
    """Ready to be asked where rows end: about 3 MB.

    A slot is a number of a lane, ``lanes`` x :data:`SLOTS` in all: a leaf, whose ``tree`` and
    ``node`` these are, or no leaf: -1.
    """

    tree: Whole
    node: Whole
    lanes: int
    _ranks: _Ranks
    _table: Sets
    _masks: Sets
    _base: Whole

    def one(self, row: Array) -> Whole:
        """The slot of each lane where a row ends. Shape (sharing, words)."""
        allowed = np.bitwise_and.reduce(self._table.take(self._ranks.one(row), axis=0))
        sets = allowed & self._masks
        sets -= _ONE  # of a single bit, as many are set now as its number says; of none, 64
        return np.asarray(np.bitwise_count(sets) + self._base)

    def blocks(self, rows: Array) -> Iterator[tuple[slice, Whole]]:
        """Some rows at a time, and the slots where they end: (sharing, rows, words). What is
        yielded is written over by the next.
        """
        sharing, words = self._masks.shape
        slots = np.empty((sharing, min(_BLOCK, len(rows)), words), np.int64)
        slots[...] = self._base[:, None]
        leaf, sets = slots.view(np.uint8)[:, :, _LOWEST_BYTE::8], np.empty(slots.shape, np.uint64)
        for start, allowed in self._allowed(self._ranks.many(rows)):
            size = len(allowed)
            left = sets[:, :size]
            np.bitwise_and(allowed, self._masks[:, None], out=left)
            np.subtract(left, _ONE, out=left)
            np.bitwise_count(left, out=leaf[:, :size])
            yield slice(start, start + size), slots[:, :size]

    def _allowed(self, ranks: Whole) -> Iterator[tuple[int, Sets]]:
        """What all features allow: few rows at once, many feature by feature, for its part of
        the table stays in the cache.
        """
        count = ranks.shape[1]
        if count <= _FEW:
            yield 0, np.bitwise_and.reduce(self._table.take(ranks, axis=0, mode="clip"))
            return
        for start in range(0, count, _FETCHED):
            some = ranks[:, start : start + _FETCHED]
            allowed = self._table.take(some[0], axis=0, mode="clip")
            fetched = np.empty_like(allowed)
            for rank in some[1:]:
                self._table.take(rank, axis=0, out=fetched, mode="clip")
                np.bitwise_and(allowed, fetched, out=allowed)
            for at in range(0, len(allowed), _BLOCK):
                yield start + at, allowed[at : at + _BLOCK]


def walks(feature: Small, threshold: Single, ends: Flags, features: int) -> Walks:
    """``feature`` and ``threshold`` of the splits: (trees, splits); ``ends``: (trees, nodes),
    whether a walk ends there.
    """
    used = ~ends[:, : threshold.shape[1]] & np.isfinite(threshold)
    last = _keys(np.arange(features), np.full(features, np.inf))
    keys = np.unique(np.concatenate([_keys(feature[used], threshold[used]), last]))
    ranks = _Ranks(keys, features)
    leaves = _grown(feature, threshold, ends, ranks)
    words = _filled(np.bincount(leaves.tree).tolist())
    word, lane, bit, masks = _placed(leaves.tree, words)
    lanes, slot = masks.size, (lane * len(words) + word) * SLOTS + bit
    tree, node = np.full((2, lanes * SLOTS), -1)
    tree[slot], node[slot] = leaves.tree, leaves.node
    base = (np.arange(lanes) * SLOTS).reshape(masks.shape)
    table = leaves.table(word, bit, (len(keys), len(words)))
    return Walks(tree, node, lanes, ranks, table, masks, base)


def _keys(feature: Any, value: Any) -> Keys:
    """Values of all features in one order: complex numbers are sorted by both parts."""
    keys = np.empty(np.shape(value), np.complex64)
    keys.real, keys.imag = feature, value
    return keys


class _Ranks:
    """Which table row a value picks. Each feature has one more than it has thresholds."""

    def __init__(self, keys: Keys, features: int) -> None:
        self._keys, self._features = keys, np.arange(features)[:, None]
        self._template = _keys(np.arange(features), np.zeros(features))
        self.stop = keys.searchsorted(_keys(np.arange(features), np.full(features, np.inf))) + 1
        self.start = np.concatenate([[0], self.stop[:-1]])
        self._build_grid()

    def _build_grid(self) -> None:
        """Ranks almost without a search: a linear grid gives the rank at a cell's lower edge,
        halving among what lies in one cell the rest. Exact, for a value's cell is monotone in
        it. Where one looks beyond a feature's thresholds there is plus infinity.
        """
        count = len(self.start)
        self._low = np.zeros((count, 1), np.float32)
        self._per_unit = np.ones((count, 1), np.float32)
        self._grid = np.empty((count, _CELLS), np.int64)
        most, thresholds = 1, []
        for at, (start, stop) in enumerate(zip(self.start, self.stop, strict=True)):
            of: Single = self._keys.imag[start : stop - 1]
            thresholds.append(of)
            if len(of) and of[-1] - of[0] > _LEAST_SPAN:
                self._low[at], self._per_unit[at] = of[0], (_CELLS - 2) / (of[-1] - of[0])
            cells = np.clip((of - self._low[at]) * self._per_unit[at], 0, _CELLS - 1)
            within = np.bincount(cells.astype(np.int64), minlength=_CELLS)
            most = max(most, int(within.max()))
            self._grid[at] = np.cumsum(within) - within + start
        self._grid_row = np.arange(count)[:, None] * _CELLS
        self._halves = [2**power for power in reversed(range(most.bit_length()))]
        room = 2 * self._halves[0]
        self._room = np.arange(count)[:, None] * room
        self._grid += self._room
        padded = [np.append(of, np.full(room + 1, np.inf, np.float32)) for of in thresholds]
        self._thresholds: Single = np.concatenate(padded)

    def of(self, feature: Small, threshold: Single) -> Whole:
        """The first table row for values beyond a threshold."""
        return self._keys.searchsorted(_keys(feature, threshold)) + 1

    def one(self, row: Array) -> Whole:
        """The table row for each feature's value. Shape (features,)."""
        keys = self._template.copy()
        keys.imag = row
        return self._keys.searchsorted(keys)

    def many(self, rows: Array) -> Whole:
        """The same for many rows. Shape (features, rows)."""
        if len(rows) <= _FEW:
            return self._keys.searchsorted(_keys(self._features, rows.T))
        columns = np.ascontiguousarray(rows.T, np.float32)
        cells = columns - self._low
        cells *= self._per_unit
        np.clip(cells, 0, _CELLS - 1, out=cells)
        places = cells.astype(np.int64)
        places += self._grid_row
        ranks = self._grid.take(places, mode="clip")
        for half in self._halves:
            beyond = columns > self._thresholds.take(ranks + (half - 1), mode="clip")
            ranks += beyond * half
        ranks -= self._room
        return ranks


@dataclass(frozen=True, slots=True, eq=False)
class _Leaves:
    """All leaves, tree by tree, and the table rows of each feature that allow them: from
    ``low`` to before ``high``, (leaves, features).
    """

    tree: Whole
    node: Whole
    low: Whole
    high: Whole

    def table(self, word: Whole, bit: Whole, shape: tuple[int, int]) -> Sets:
        """Each leaf's bit turned on where it begins to be allowed, off where it ceases."""
        rows, words = shape
        flips = np.zeros((rows + 1) * words, np.uint64)
        bits = np.broadcast_to(_ONE << bit.astype(np.uint64)[:, None], self.low.shape).ravel()
        for edge in (self.low, np.maximum(self.low, self.high)):
            np.bitwise_xor.at(flips, (edge * words + word[:, None]).ravel(), bits)
        return np.bitwise_xor.accumulate(flips.reshape(-1, words), axis=0)[:rows]


def _grown(feature: Small, threshold: Single, ends: Flags, ranks: _Ranks) -> _Leaves:
    """Every walk that splits leave open, level by level from the roots."""
    tree, node = np.arange(len(ends)), np.zeros(len(ends), np.int64)
    low, high = (np.tile(edge, (len(ends), 1)) for edge in (ranks.start, ranks.stop))
    found = []
    while len(tree):
        done = ends[tree, node]
        found.append([of[done] for of in (tree, node, low, high)])
        tree, node, low, high = (of[~done] for of in (tree, node, low, high))
        split = feature[tree, node]
        row, at = ranks.of(split, threshold[tree, node]), (np.arange(len(tree)), split)
        left_high, right_low = high.copy(), low.copy()
        left_high[at] = np.minimum(high[at], row)
        right_low[at] = np.maximum(low[at], row)
        tree, node = np.tile(tree, 2), np.concatenate([2 * node + 1, 2 * node + 2])
        low, high = np.concatenate([low, right_low]), np.concatenate([left_high, high])
    tree, node, low, high = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(tree, kind="stable")
    return _Leaves(tree[order], node[order], low[order], high[order])


_Words = list[list[tuple[int, int]]]
"""Of each word, whose leaves it has and how many: (tree, count)."""


def _filled(sizes: list[int]) -> _Words:
    """The words for trees of so many leaves, shared as pays best."""
    ways = [_shared(sizes, sharing) for sharing in range(1, _MOST_SHARING + 1)]
    return min(ways, key=lambda words: len(words) * (_WORD_IN_LANES + max(map(len, words))))


def _shared(sizes: list[int], sharing: int) -> _Words:
    """No more than ``sharing`` trees a word. The last to come fills it, if any can."""
    rest = sorted((size, tree) for tree, size in enumerate(sizes))
    words: _Words = []
    free = 0
    while rest:
        if not free or len(words[-1]) == sharing:
            words.append([])
            free = _WIDTH
        fills = bisect_left(rest, (free, 0)) if len(words[-1]) == sharing - 1 else len(rest)
        left, tree = rest.pop(min(fills, len(rest) - 1))
        while left:
            if not free:
                words.append([])
                free = _WIDTH
            size = min(left, free)
            words[-1].append((tree, size))
            left, free = left - size, free - size
    return words


def _placed(tree: Whole, words: _Words) -> tuple[Whole, Whole, Whole, Sets]:
    """Word, lane of the word and bit of each leaf; and each lane's bits (lanes, words)."""
    masks = np.zeros((max(map(len, words)), len(words)), np.uint64)
    word, lane, bit = np.zeros((3, len(tree)), np.int64)
    at = np.searchsorted(tree, np.arange(tree[-1] + 1)).tolist()
    for nth_word, parts in enumerate(words):
        begin = 0
        for nth, (of, size) in enumerate(parts):
            leaves = slice(at[of], at[of] + size)
            word[leaves], lane[leaves] = nth_word, nth
            bit[leaves] = np.arange(begin, begin + size)
            masks[nth, nth_word] = ((1 << size) - 1) << begin
            at[of] += size
            begin += size
    return word, lane, bit, masks
