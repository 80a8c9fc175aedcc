"""An isolation forest, scored exactly and fast with numpy alone.

Trees are complete binary trees in heap order: split ``feature`` and ``threshold`` of every
inner node (a node that decides nothing sends all to the left), ``leaf`` the path length of
every leaf. There are no child pointers, so no file can send a walk out of bounds.

Scoring follows QuickScorer with rank tables. The forest's thresholds of one feature are
sorted once; a value's rank among them picks a table row that holds, for each tree, the set
of leaves (64 bits) which that feature still allows. ANDed over the features, the lowest bit
is the leaf that the walk would reach. Trees of more than 64 leaves are split into parts,
whose foreign leaves count nothing. The same row gives the same bits in any company.

Sources: F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", ICDM 2008; C. Lucchese et al.,
"QuickScorer", SIGIR 2015; A. Saabas, "Interpreting random forests", 2014 (attribution).
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.errors import ShapeMismatch
from models.features import Array

Single = npt.NDArray[np.float32]
Sets = npt.NDArray[np.uint64]
Whole = npt.NDArray[np.int64]

_ALL: Final = np.uint64(2**64 - 1)
_WIDTH: Final = 64
_CELLS: Final = 4096
_BLOCK: Final = 192
_FEW: Final = 3
_SOME: Final = 40
_EXPONENT_BIAS: Final = 1023
MOST_NATS: Final = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """``feature`` and ``threshold``: (trees, 2^depth - 1); ``leaf``: (trees, 2^depth), path
    lengths. A score is ``-2 ** (-mean path length / usual)``. ``ranks`` are scores of training
    rows, ascending from the oddest: score → how rare. ``expected``: (trees, 2^depth - 1), the
    mean path length of the training samples that came through each inner node.
    """

    features: tuple[str, ...]
    feature: npt.NDArray[np.int16]
    threshold: Single
    leaf: Array
    usual: float
    ranks: Array
    expected: Array
    uid: str = ""


class Forest:
    """Trees made ready for scoring: about 5 MB of tables, built once."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        cuts = [
            _Cut(feature, threshold, leaf).parts(0, frozenset())
            for feature, threshold, leaf in zip(
                trees.feature, trees.threshold, trees.leaf, strict=True
            )
        ]
        parts = [part for cut in cuts for part in cut]
        self._tree = np.repeat(np.arange(len(cuts)), [len(cut) for cut in cuts])
        self._denominator = trees.usual * len(trees.leaf)
        self._leaf = np.zeros((len(parts), _WIDTH))
        self._end = np.full((len(parts), _WIDTH), -1)
        nodes: list[list[tuple[np.float32, int, int, int]]] = [[] for _ in trees.features]
        for part, (splits, leaves, ends) in enumerate(parts):
            self._leaf[part, : len(leaves)] = leaves
            self._end[part, : len(ends)] = ends
            for feature, threshold, first, middle in splits:
                nodes[feature].append((threshold, part, first, middle))
        self._build(nodes, len(parts))
        self._build_grid()
        self._tail = _Tail(trees.ranks)

    def _build(self, nodes: list[list[tuple[np.float32, int, int, int]]], parts: int) -> None:
        tables, self._thresholds, self._start = [], [], []
        at = 0
        for of_feature in nodes:
            thresholds = np.unique(np.array([node[0] for node in of_feature], np.float32))
            table = np.full((len(thresholds) + 1, parts), _ALL)
            for threshold, part, first, middle in of_feature:
                # A value beyond it rules out the leaves left of the node.
                row = int(np.searchsorted(thresholds, threshold)) + 1
                table[row, part] &= ~np.uint64((2**middle - 1) ^ (2**first - 1))
            np.bitwise_and.accumulate(table, axis=0, out=table)
            tables.append(table)
            self._thresholds.append(thresholds)
            self._start.append(at)
            at += len(table)
        self._table: Sets = np.concatenate(tables)
        self._lists = [thresholds.tolist() for thresholds in self._thresholds]
        self._flat_leaf = self._leaf.ravel()
        self._leaf_base = np.arange(parts) * _WIDTH - _EXPONENT_BIAS

    def _build_grid(self) -> None:
        """Ranks without a search: a linear grid gives the rank at a cell's lower edge, a few
        comparisons the rest. Exact, for the cell of a value is monotone in it.
        """
        ends = [
            (t[0], t[-1]) if len(t) else (np.float32(0), np.float32(0)) for t in self._thresholds
        ]
        self._low = np.array([low for low, _ in ends], np.float32)[:, None]
        span = np.array([high - low for low, high in ends], np.float32)[:, None]
        self._per_unit = np.where(span > 0, np.float32(_CELLS - 2) / np.where(span > 0, span, 1), 1)
        self._per_unit = self._per_unit.astype(np.float32)
        self._grid = np.empty((len(ends), _CELLS), np.int64)
        self._steps = 1
        for at, thresholds in enumerate(self._thresholds):
            scaled = (thresholds - self._low[at]) * self._per_unit[at]
            below = np.bincount(np.minimum(scaled, _CELLS - 1).astype(np.int64), minlength=_CELLS)
            self._steps = max(self._steps, int(below.max(initial=0)))
            self._grid[at] = np.cumsum(below) - below + self._start[at]
        self._grid_row = (np.arange(len(ends)) * _CELLS)[:, None]
        self._padded = np.concatenate([np.append(t, np.float32(np.inf)) for t in self._thresholds])

    def depths(self, rows: Array) -> Array:
        """Sum of the path lengths over all trees. ``rows``: (rows, features), finite.

        Raises: ShapeMismatch for another number of features.
        """
        columns = self._columns(rows)
        count = columns.shape[1]
        if count <= _FEW:
            return np.array([self._depth(columns[:, row]) for row in range(count)])
        return self._many(columns)

    def _columns(self, rows: Array) -> Single:
        if rows.ndim != 2 or rows.shape[1] != len(self.trees.features):
            raise ShapeMismatch(
                f"rows of shape {rows.shape} for a forest of {len(self.trees.features)} features: "
                "align them by feature name first"
            )
        return np.ascontiguousarray(rows.T, np.float32)

    def _depth(self, row: Single) -> np.float64:
        total: np.float64 = self._flat_leaf.take(self._leaves(row)).sum()
        return total

    def _leaves(self, row: Single) -> Whole:
        """Which leaf of each part one row reaches, all parts' leaves in one row."""
        places = [
            bisect_left(thresholds, value) + start
            for thresholds, value, start in zip(self._lists, row.tolist(), self._start, strict=True)
        ]
        sets = np.bitwise_and.reduce(self._table.take(places, axis=0), axis=0)
        sets &= np.negative(sets)
        leaves = sets.astype(np.float64).view(np.int64)
        leaves >>= 52
        leaves += self._leaf_base
        return np.asarray(leaves)

    def _ranks(self, columns: Single) -> Whole:
        if columns.shape[1] <= _SOME:
            return np.array([
                thresholds.searchsorted(column) + start
                for thresholds, column, start in zip(
                    self._thresholds, columns, self._start, strict=True
                )
            ])  # fmt: skip  # one expression
        cells = columns - self._low
        cells *= self._per_unit
        np.clip(cells, 0, _CELLS - 1, out=cells)
        places = cells.astype(np.int64)
        places += self._grid_row
        ranks = self._grid.take(places)
        for _ in range(self._steps):
            ranks += columns > self._padded.take(ranks)
        return ranks

    def _many(self, columns: Single) -> Array:
        count = columns.shape[1]
        out, paths = np.empty(count), np.empty((min(_BLOCK, count), len(self._leaf)))
        for start, leaves in self._blocks(columns):
            path = paths[: len(leaves)]
            self._flat_leaf.take(leaves, out=path, mode="clip")
            path.sum(1, out=out[start : start + len(leaves)])
        return out

    def _blocks(self, columns: Single) -> Iterator[tuple[int, Whole]]:
        """Some rows at a time: where they begin, and the leaf of each part that each reaches.
        What is yielded is written over by the next.
        """
        count, parts = columns.shape[1], len(self._leaf)
        ranks, block = self._ranks(columns), min(_BLOCK, count)
        sets, scratch = np.empty((block, parts), np.uint64), np.empty((block, parts), np.uint64)
        powers = np.empty((block, parts))
        for start in range(0, count, block):
            size = min(block, count - start)
            left, other, power = sets[:size], scratch[:size], powers[:size]
            self._table.take(ranks[0, start : start + size], axis=0, out=left, mode="clip")
            for rank in ranks[1:]:
                self._table.take(rank[start : start + size], axis=0, out=other, mode="clip")
                np.bitwise_and(left, other, out=left)
            np.negative(left, out=other)
            np.bitwise_and(left, other, out=left)
            power[...] = left  # a power of two: its exponent is the leaf's number
            leaves = power.view(np.int64)
            leaves >>= 52
            leaves += self._leaf_base
            yield start, leaves

    def scores(self, rows: Array) -> Array:
        """As scikit-learn's ``score_samples``: -1 the oddest, about -0.45 ordinary."""
        return np.array([-(2.0 ** (-d / self._denominator)) for d in self.depths(rows).tolist()])

    def surprise(self, rows: Array) -> Array:
        """How rare such rows were in training, in nats: 0 to :data:`MOST_NATS`, mean 1."""
        if not len(rows):
            return np.empty(0)
        return self._tail.nats(self.scores(rows))

    def shares(self, rows: Array) -> Array:
        """What each feature contributed to isolating each row: path lengths saved at its
        splits against the usual path, additive over features and trees. Both shapes
        (rows, features).

        Raises: ShapeMismatch for another number of features.
        """
        columns, saved = self._columns(rows), self._saved
        if len(rows) <= _FEW:
            leaves = [self._leaves(columns[:, row]) for row in range(len(rows))]
            return np.array([saved.take(at, axis=0).sum(axis=0) for at in leaves])
        blocks = [saved.take(at, axis=0).sum(axis=1) for _, at in self._blocks(columns)]
        return np.concatenate(blocks)

    @functools.cached_property
    def _saved(self) -> Array:
        """For each leaf of each part what every feature's splits above it saved; made when
        first asked for: most rows are never explained. Shape (parts x 64, features).
        """
        trees, size = self.trees, len(self.trees.features)
        length = np.concatenate([trees.expected, trees.leaf], axis=1)
        count, nodes = length.shape
        every = np.arange(count)
        # The last one is nowhere: where another part counts the leaf.
        saved = np.zeros((count, nodes + 1, size))
        for node in range(trees.feature.shape[1]):
            for child in (2 * node + 1, 2 * node + 2):
                saved[:, child] = saved[:, node]
                saved[every, child, trees.feature[:, node]] += length[:, node] - length[:, child]
        return np.asarray(saved[self._tree[:, None], self._end].reshape(-1, size))


class _Tail:
    """Scores → nats: by rank among training scores, beyond them an exponential tail."""

    def __init__(self, ranks: Array) -> None:
        self._ranks = ranks
        self._count = len(ranks)
        far = ranks[: max(self._count // 50, 2)]
        self._edge = float(far[-1])
        self._excess = max(float(np.mean(self._edge - far)), 1e-3)
        self._nats_at_edge = float(np.log(self._count / len(far)))

    def nats(self, scores: Array) -> Array:
        rank = np.searchsorted(self._ranks, scores, side="right") + 0.5
        within = np.log((self._count + 1.0) / rank)
        beyond = self._nats_at_edge + (self._edge - scores) / self._excess
        return np.minimum(np.where(scores < self._edge, beyond, within), MOST_NATS)


_Split = tuple[int, np.float32, int, int]
_Part = tuple[list[_Split], list[float], list[int]]
"""Of at most 64 leaves: splits (feature, threshold, first leaf, first leaf to the right), the
path length of each leaf, and its node; 0 and -1 where another part counts it.
"""


class _Cut:
    """One tree, its idle splits pruned (those between equal leaves), cut into parts."""

    def __init__(self, feature: npt.NDArray[np.int16], threshold: Single, leaf: Array) -> None:
        self._feature, self._threshold = feature, threshold
        self._inner = inner = len(feature)
        self._real = np.isfinite(threshold)
        self._value = np.concatenate([np.full(inner, np.nan), leaf])
        for node in range(inner - 1, -1, -1):
            left, right = self._value[2 * node + 1], self._value[2 * node + 2]
            if not self._real[node] or left == right:
                self._real[node], self._value[node] = False, left

    def _ends(self, node: int) -> bool:
        return node >= self._inner or not self._real[node]

    def _count(self, node: int) -> int:
        if self._ends(node):
            return 1
        return self._count(2 * node + 1) + self._count(2 * node + 2)

    def _under(self, node: int) -> frozenset[int]:
        if self._ends(node):
            return frozenset({node})
        return self._under(2 * node + 1) | self._under(2 * node + 2) | {node}

    def parts(self, node: int, above: frozenset[int]) -> list[_Part]:
        if self._count(node) + len(above) <= _WIDTH:
            part: _Part = ([], [], [])
            self._walk(0, above | self._under(node), part)
            return [part]
        further = above | {node}
        return self.parts(2 * node + 1, further) + self.parts(2 * node + 2, further)

    def _walk(self, node: int, kept: frozenset[int], part: _Part) -> None:
        splits, leaves, ends = part
        if node not in kept or self._ends(node):
            leaves.append(float(self._value[node]) if node in kept else 0.0)
            ends.append(node if node in kept else -1)
            return
        first = len(leaves)
        self._walk(2 * node + 1, kept, part)
        split = int(self._feature[node]), self._threshold[node], first, len(leaves)
        splits.append(split)
        self._walk(2 * node + 2, kept, part)
