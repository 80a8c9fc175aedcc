"""Deviations → a forest. The only file that needs scikit-learn; scoring does without."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
from sklearn.ensemble import IsolationForest

from models.detectors.forest import Forest, Trees
from models.errors import ShapeMismatch
from models.features import Array

TREES: Final = 100
SAMPLES: Final = 256
MOST_RANKS: Final = 4_096
_LEAST_ROWS: Final = 64
_EULER: Final = 0.5772156649015329


def fit(deviations: Array, features: tuple[str, ...], seed: int, trees: int = TREES,
        samples: int = SAMPLES, uid: str = "") -> Trees:  # fmt: skip  # two lines
    """A forest over rows as the detectors see them (``models.pipeline.deviations``).

    ``deviations``: (rows, features), finite. The same rows and seed give the same forest.
    No labels: how rare a score is, is read from the training rows themselves.

    Raises: ShapeMismatch with too few rows, other columns, or a value that is not finite.
    """
    rows = np.asarray(deviations, np.float32)
    if rows.ndim != 2 or rows.shape[1] != len(features) or len(rows) < _LEAST_ROWS:
        raise ShapeMismatch(
            f"{rows.shape} for {len(features)} features: expected at least {_LEAST_ROWS} rows"
        )
    if not np.isfinite(rows).all():
        raise ShapeMismatch("a deviation is not finite: leave that row out")
    used = min(samples, len(rows))
    model = IsolationForest(n_estimators=trees, max_samples=used, random_state=seed)
    model.fit(rows)
    depth = math.ceil(math.log2(used))
    parts = [_complete(tree.tree_, depth) for tree in model.estimators_]
    feature, threshold, leaf, expected = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    made = Trees(features, feature, threshold, leaf, _usual(used), np.zeros(2), expected, uid)
    scores = np.sort(Forest(made).scores(rows.astype(np.float64)))
    ranks = scores[np.unique(np.linspace(0, len(scores) - 1, MOST_RANKS).astype(int))]
    return replace(made, ranks=ranks)


def _usual(count: float) -> float:
    """The mean path length of an unsuccessful search among ``count`` (Liu et al., eq. 1)."""
    if count <= 1:
        return 0.0
    if count == 2:
        return 1.0
    return 2.0 * (math.log(count - 1.0) + _EULER) - 2.0 * (count - 1.0) / count


def _complete(tree: Any, depth: int) -> tuple[Any, Any, Array, Array]:
    """A scikit-learn tree as a complete one of ``depth`` levels, in heap order.

    Values are compared as float32 there, so a threshold rounded *down* to float32 decides
    every one of them alike.
    """
    inner = 2**depth - 1
    feature, threshold = np.zeros(inner, np.int16), np.full(inner, np.inf, np.float32)
    leaf, mean = np.zeros(inner + 1), _mean_lengths(tree)
    expected = np.zeros(inner)
    pending = [(0, 0, 0)]
    while pending:
        node, place, level = pending.pop()
        if place < inner:
            expected[place] = level + mean[node]
        if tree.children_left[node] < 0:
            length = level + _usual(float(tree.n_node_samples[node]))
            first = (place + 1) * 2 ** (depth - level) - 1 - inner
            leaf[first : first + 2 ** (depth - level)] = length
            _fill(expected, place, length)
            continue
        feature[place], threshold[place] = tree.feature[node], _down(tree.threshold[node])
        pending.append((int(tree.children_left[node]), 2 * place + 1, level + 1))
        pending.append((int(tree.children_right[node]), 2 * place + 2, level + 1))
    return feature, threshold, leaf, expected


def _fill(expected: Array, place: int, length: float) -> None:
    """Below a leaf that is not at the bottom nothing is decided any more."""
    while place < len(expected):
        expected[place] = length
        place = 2 * place + 1


def _mean_lengths(tree: Any) -> list[float]:
    """For each node the mean path length from it on, over the samples that came through."""
    count = [float(n) for n in tree.n_node_samples]
    mean = [_usual(n) for n in count]
    for node in range(tree.node_count - 1, -1, -1):
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left >= 0:
            whole = count[left] * mean[left] + count[right] * mean[right]
            mean[node] = 1.0 + whole / count[node]
    return mean


def _down(threshold: float) -> np.float32:
    single = np.float32(threshold)
    return np.nextafter(single, np.float32(-np.inf)) if float(single) > threshold else single
