"""An isolation forest, scored exactly and fast with numpy alone.

Trees are complete binary trees in heap order: split ``feature`` and ``threshold`` of every
inner node (a node that decides nothing sends all to the left), ``leaf`` the path length of
every leaf. There are no child pointers, so no file can send a walk out of bounds. Where walks
end is found for all trees at once (``walks.py``).

Path lengths are rounded to a grid on which sums over the trees are exact. So the same row
gives the same bits in any company, however it is added up, and shares sum to the score.

Sources: F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", ICDM 2008; A. Saabas,
"Interpreting random forests", 2014 (attribution).
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from models.detectors.walks import Ends, Leaves, grown, settled
from models.errors import ShapeMismatch
from models.features import Array
from models.history import History

Single = npt.NDArray[np.float32]

MOST_NATS: Final = 12.0
_BITS: Final = 52
"""In which a sum over all trees must fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """``feature`` and ``threshold``: (trees, 2^depth - 1); ``leaf``: (trees, 2^depth), path
    lengths. A score is ``-2 ** (-mean path length / usual)``. ``ranks`` are scores of training
    rows, ascending from the oddest: score → how rare. ``expected``: (trees, 2^depth - 1), the
    mean path length of the training samples that came through each inner node.
    ``histories``: what the same rows taught of each group, for its onsets (models/history.py).
    """

    features: tuple[str, ...]
    feature: npt.NDArray[np.int16]
    threshold: Single
    leaf: Array
    usual: float
    ranks: Array
    expected: Array
    uid: str = ""
    histories: Mapping[str, History] = field(default_factory=dict)


class Forest:
    """Trees made ready for scoring, once; about 3 MB of tables."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        length = np.concatenate([trees.expected, trees.leaf], axis=1)
        unit = _unit(length)
        self._length = _rounded(length, unit)
        self._path = settled(self._length[:, trees.threshold.shape[1] :])
        self._lengths = self._grown().lengths(self._path, unit)
        self._denominator = trees.usual * len(trees.leaf)
        self._tail = _Tail(trees.ranks, self._denominator, unit)

    def history(self, group: str) -> History | None:
        """What its training taught of a group (``SCOPE/LINEAGE/ROLE``), for onsets."""
        return self.trees.histories.get(group)

    def depths(self, rows: Array) -> Array:
        """Sum of the path lengths over all trees. ``rows``: (rows, features), finite.

        Raises: ShapeMismatch for another number of features.
        """
        self._check(rows)
        if len(rows) == 1:
            return np.array([self._lengths.one(rows[0])])
        return self._lengths.many(rows)

    def _grown(self) -> Leaves:
        trees = self.trees
        ends = ~np.isnan(self._path)
        return grown(trees.feature, trees.threshold, ends, len(trees.features))

    def _check(self, rows: Array) -> None:
        if rows.ndim != 2 or rows.shape[1] != len(self.trees.features):
            raise ShapeMismatch(
                f"rows of shape {rows.shape} for a forest of {len(self.trees.features)} features: "
                "align them by feature name first"
            )

    def scores(self, rows: Array) -> Array:
        """As scikit-learn's ``score_samples``: -1 the oddest, about -0.45 ordinary."""
        return _scores(self.depths(rows), self._denominator)

    def surprise(self, rows: Array) -> Array:
        """How rare such rows were in training, in nats: 0 to :data:`MOST_NATS`, mean 1."""
        if len(rows) == 1:
            self._check(rows)
            return np.array([self._tail.nats_of_one(self._lengths.one(rows[0]))])
        return self._tail.nats(self.depths(rows))

    def shares(self, rows: Array) -> Array:
        """What each feature contributed to isolating each row: path lengths saved at its
        splits against the usual path, additive over features and trees. Both shapes
        (rows, features).

        Raises: ShapeMismatch for another number of features.
        """
        self._check(rows)
        ends, saved, every = self._saved
        if len(rows) == 1:
            return np.asarray(every.dot(saved.take(ends.one(rows[0]), axis=0))[None])
        out = np.empty(rows.shape)
        for at, slots in ends.many(rows):
            np.matmul(every, saved.take(slots, axis=0), out=out[at])
        return out

    @functools.cached_property
    def _saved(self) -> tuple[Ends, Array, Array]:
        """Where walks end; for each slot what every feature's splits above its leaf saved:
        (slots, features); and a one for each end. Made when first asked for: most rows are
        never explained.
        """
        feature, length = self.trees.feature, self._length
        every = np.arange(len(length))
        saved = np.zeros((*length.shape, len(self.trees.features)))
        for node in range(feature.shape[1]):
            for child in (2 * node + 1, 2 * node + 2):
                saved[:, child] = saved[:, node]
                saved[every, child, feature[:, node]] += length[:, node] - length[:, child]
        ends = self._grown().ends()
        leaves = ends.node >= 0
        slots = np.zeros((len(leaves), saved.shape[2]))
        slots[leaves] = saved[ends.tree[leaves], ends.node[leaves]]
        return ends, slots, np.ones(len(ends.first))


def _unit(length: Array) -> float:
    """Of what all lengths are made multiples, so that sums over the trees are exact: of
    lengths, and of what the splits of one feature saved on the way to a leaf.
    """
    depth = length.shape[1].bit_length() - 1
    most = float(length.max(axis=1).sum()) * depth
    return math.ldexp(1.0, math.frexp(most)[1] - _BITS)


def _rounded(length: Array, unit: float) -> Array:
    return np.asarray(np.rint(length / unit) * unit)


def _scores(depths: Array, denominator: float) -> Array:
    exponents = (depths / -denominator).tolist()
    return -np.array([math.exp2(exponent) for exponent in exponents])


class _Tail:
    """Depths → nats: by rank among training rows, beyond them an exponential tail."""

    def __init__(self, ranks: Array, denominator: float, unit: float) -> None:
        count, far = len(ranks), ranks[: max(len(ranks) // 50, 2)]
        self._denominator = denominator
        with np.errstate(divide="ignore"):  # a score of 0 is endlessly far down
            self._depths = _rounded(np.log2(-ranks) * -denominator, unit)
        self._within = np.log((count + 1.0) / (np.arange(count + 1) + 0.5))
        np.minimum(self._within, MOST_NATS, out=self._within)
        self._listed: list[float] = self._depths.tolist()
        self._edge, self._edge_depth = float(far[-1]), float(self._depths[len(far) - 1])
        self._excess = max(float(np.mean(self._edge - far)), 1e-3)
        self._nats_at_edge = math.log(count / len(far))

    def nats(self, depths: Array) -> Array:
        nats = self._within.take(self._depths.searchsorted(depths, side="right"))
        beyond = depths < self._edge_depth
        if beyond.any():
            nats[beyond] = self._beyond(depths[beyond])
        return np.asarray(nats)

    def nats_of_one(self, depth: float) -> float:
        """The same bits sooner."""
        if depth < self._edge_depth:
            return float(self._beyond(np.array([depth]))[0])
        return float(self._within[bisect_right(self._listed, depth)])

    def _beyond(self, depths: Array) -> Array:
        off = self._edge - _scores(depths, self._denominator)
        return np.minimum(self._nats_at_edge + off / self._excess, MOST_NATS)
