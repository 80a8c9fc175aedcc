"""Where a row's walk down each tree of a forest ends, for all trees at once.

Trees are complete binary trees in heap order: a value beyond the threshold goes right. There
are no child pointers, so no file can send a walk out of bounds.

This follows QuickScorer with rank tables. The forest's thresholds of one feature are sorted
once; a value's rank among them picks a table row that holds, for each leaf of the forest,
whether that feature still allows it: a bit. ANDed over the features, of each tree one leaf is
left.

Mostly only the sum of path lengths is asked for, not which leaves they are. So in one table
leaves lie together not by tree but by path length, of which there are few: a word of 64, or what
is left over a byte of 8, has leaves of one length alone, and bits need only be counted. Another
table, for those who ask where walks end, has words with leaves of one tree alone, of whose
bits at most one is left.

Source: C. Lucchese et al., "QuickScorer", SIGIR 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.detectors.ranks import FEW, Ranks, Single, Small, Whole
from models.features import Array

Sets = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

_WORD: Final = 64
_BYTE: Final = 8
_IN_WORD: Final = _WORD // _BYTE
_ONE: Final = np.array(1, np.uint64)
_FETCHED: Final = 1024
_BLOCK: Final = 256
"""Rows at a time, of the table and of the answer: more leave the cache, fewer waste calls."""


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
class Table:
    """What each feature allows, by the rank of its value: a row of bits, in words."""

    ranks: Ranks
    sets: Sets

    def row(self, row: Array) -> Sets:
        """What all features of a row allow. Shape (words,)."""
        found: Sets = np.bitwise_and.reduce(self.sets.take(self.ranks.one(row), axis=0))
        return found

    def rows(self, rows: Array) -> Iterator[tuple[slice, Sets]]:
        """The same for some rows at a time: few at once, many feature by feature, for its part
        of the table stays in the cache. What is yielded is the caller's.
        """
        ranks = self.ranks.many(rows)
        if len(rows) <= FEW:
            sets = self.sets.take(ranks, axis=0, mode="clip")
            yield slice(0, len(rows)), np.bitwise_and.reduce(sets)
            return
        for start in range(0, len(rows), _FETCHED):
            some = ranks[:, start : start + _FETCHED]
            allowed = self.sets.take(some[0], axis=0, mode="clip")
            fetched = np.empty_like(allowed)
            for rank in some[1:]:
                self.sets.take(rank, axis=0, out=fetched, mode="clip")
                np.bitwise_and(allowed, fetched, out=allowed)
            for at in range(0, len(allowed), _BLOCK):
                part = allowed[at : at + _BLOCK]
                yield slice(start + at, start + at + len(part)), part


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """How long walks are: about 3 MB.

    ``length``: the path length of the leaves in each byte. ``digits``: in each of the first
    ``words`` and in each byte after them, as whole numbers of which each has its ``worth``: so
    small that single precision adds them up exactly, at half the price. (places, digits)
    """

    length: Array
    words: int
    digits: Single
    worth: Array
    table: Table

    def one(self, row: Array) -> float:
        """The path lengths of a row, added up over the trees."""
        counts = np.bitwise_count(self.table.row(row).view(np.uint8))
        return float(counts.dot(self.length))

    def many(self, rows: Array) -> Array:
        """The same for many rows. Shape (rows,)."""
        words, out = self.words, np.empty(len(rows))
        counts = np.empty((min(_BLOCK, len(rows)), len(self.digits)), np.uint8)
        for at, allowed in self.table.rows(rows):
            counted = counts[: len(allowed)]
            np.bitwise_count(allowed[:, :words], out=counted[:, :words])
            np.bitwise_count(allowed[:, words:].view(np.uint8), out=counted[:, words:])
            np.dot(np.dot(counted.astype(np.float32), self.digits), self.worth, out=out[at])
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Which leaves walks end in: about 5 MB.

    A slot is a leaf, whose ``tree`` and ``node`` these are, or the last one of a word: the walk
    ends in none of its leaves, -1. ``first``: of each word.
    """

    tree: Whole
    node: Whole
    first: Whole
    table: Table

    def one(self, row: Array) -> Whole:
        """For each word the slot where a row ends. Shape (words,)."""
        return self._slots(self.table.row(row))

    def many(self, rows: Array) -> Iterator[tuple[slice, Whole]]:
        """The same for some rows at a time: (rows, words)."""
        for at, allowed in self.table.rows(rows):
            yield at, self._slots(allowed)

    def _slots(self, allowed: Sets) -> Whole:
        allowed -= _ONE  # of a single bit, as many are set now as its number says; of none, all
        return np.asarray(np.bitwise_count(allowed) + self.first)


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """All leaves, tree by tree, and the table rows of each feature that allow them: from
    ``low`` to before ``high``, (leaves, features).
    """

    tree: Whole
    node: Whole
    low: Whole
    high: Whole
    ranks: Ranks

    def lengths(self, path: Array, unit: float) -> Lengths:
        """``path``: (trees, nodes), the path lengths of leaves, multiples of ``unit``."""
        place, words, length = _shelved(path[self.tree, self.node])
        table = self._table(place, words + (len(length) - words) // _IN_WORD)
        of_bytes = np.concatenate([length[:words].repeat(_IN_WORD), length[words:]])
        digits, worth = _digits(length, unit, len(path))
        return Lengths(of_bytes, words, digits, worth, table)

    def ends(self) -> Ends:
        count = np.bincount(self.tree)
        nth = np.arange(len(self.tree)) - _before(count).repeat(count)
        words = -(-count // _WORD)
        word, bit = _before(words).repeat(count) + nth // _WORD, nth % _WORD
        first = np.arange(int(words.sum())) * (_WORD + 1)
        tree, node = np.full((2, len(first) * (_WORD + 1)), -1)
        slot = first[word] + bit
        tree[slot], node[slot] = self.tree, self.node
        return Ends(tree, node, first, self._table(word * _WORD + bit, len(first)))

    def _table(self, place: Whole, words: int) -> Table:
        """Each leaf's bit turned on where it begins to be allowed, off where it ceases."""
        rows, row_bytes = len(self.ranks), words * _IN_WORD
        flips = np.zeros((rows + 1) * row_bytes, np.uint8)
        bits = (1 << place % _BYTE).astype(np.uint8)[:, None].repeat(self.low.shape[1], axis=1)
        for edge in (self.low, np.maximum(self.low, self.high)):
            at = edge * row_bytes + place[:, None] // _BYTE
            np.bitwise_xor.at(flips, at.ravel(), bits.ravel())
        sets = flips.view(np.uint64).reshape(rows + 1, words)
        return Table(self.ranks, np.bitwise_xor.accumulate(sets, axis=0)[:rows])


def grown(feature: Small, threshold: Single, ends: Flags, features: int) -> Leaves:
    """Every walk that splits leave open, level by level from the roots. ``feature`` and
    ``threshold`` of the splits: (trees, splits); ``ends``: (trees, nodes), whether a walk ends
    there.
    """
    used = ~ends[:, : threshold.shape[1]] & np.isfinite(threshold)
    ranks = Ranks(feature[used], threshold[used], features)
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
    return Leaves(tree[order], node[order], low[order], high[order], ranks)


def _shelved(path: Array) -> tuple[Whole, int, Array]:
    """The place of each leaf, given its path length, so that those of one length lie together;
    of how many words each is full of one length, and the lengths in these, then in bytes.
    """
    values, which, count = np.unique(path, return_inverse=True, return_counts=True)
    nth = np.empty_like(which)
    nth[np.argsort(which, kind="stable")] = np.arange(len(path)) - _before(count).repeat(count)
    full = count // _WORD
    odd = -((full * _WORD - count) // _BYTE)
    words = int(full.sum())
    left = nth - full[which] * _WORD
    place = np.where(
        left < 0, _before(full)[which] * _WORD + nth,
        words * _WORD + _before(odd)[which] * _BYTE + left,
    )  # fmt: skip  # one case a line
    empty = np.zeros(-int(odd.sum()) % _IN_WORD)
    return place, words, np.concatenate([values.repeat(full), values.repeat(odd), empty])


def _digits(length: Array, unit: float, most: int) -> tuple[Single, Array]:
    """Lengths as digits, of which single precision adds up so many exactly."""
    bits = np.finfo(np.float32).nmant + 1 - most.bit_length()
    units = (length / unit).astype(np.int64)
    shifts = np.arange(0, max(int(units.max()).bit_length(), 1), bits)
    digits = (units[:, None] >> shifts) & ((1 << bits) - 1)
    return digits.astype(np.float32), np.ldexp(unit, shifts)


def _before(count: Whole) -> Whole:
    """How many there are in all before each."""
    return np.cumsum(count) - count
