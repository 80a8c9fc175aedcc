"""A forest is exactly scikit-learn's, the same in any company, and distrusted as a file."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from models.budget import Tail
from models.detectors.forest import Forest
from models.detectors.residual import Residual
from models.errors import ShapeMismatch, UntrustedFile
from models.features import Array
from models.following import HORIZONS
from models.history import History
from models.modelfile import digest, load, save
from models.training import fit

NAMES = tuple(f"f{at}" for at in range(12))
ROWS = np.random.default_rng(1).normal(size=(3000, 12)).astype(np.float32).astype(np.float64)
TREES = fit(ROWS, NAMES, seed=7)
FOREST = Forest(TREES)


def test_scores_are_those_of_scikit_learn_thresholds_hit_exactly_included() -> None:
    """A value at a threshold goes left there; elsewhere is another forest."""
    theirs = IsolationForest(n_estimators=100, max_samples=256, random_state=7)
    theirs.fit(ROWS.astype(np.float32))
    at_thresholds = ROWS[:2000].copy()
    for row, (tree, node) in enumerate(np.ndindex(40, 50)):
        if np.isfinite(TREES.threshold[tree, node]):
            at_thresholds[row, TREES.feature[tree, node]] = TREES.threshold[tree, node]

    for rows in (ROWS, ROWS * 5, at_thresholds):
        expected = theirs.score_samples(rows.astype(np.float32))
        np.testing.assert_allclose(FOREST.scores(rows), expected, rtol=0, atol=1e-12)


def spiked(rows: int, columns: int) -> Array:
    """A few values far out, all else in one place: a grid over both is of no use."""
    values = np.random.default_rng(4).normal(size=(rows, columns)) * 1e-3
    values[::100] *= 1e9
    return values.astype(np.float32).astype(np.float64)


def heavy(rows: int, columns: int) -> Array:
    """Small trees, several of which share a word."""
    values = np.random.default_rng(5).standard_t(1.5, size=(rows, columns))
    return values.astype(np.float32).astype(np.float64)


SHAPES = {
    "trees of a thousand leaves": (ROWS, 9, 1500),
    "trees that share words": (heavy(1000, 5), 100, 256),
    "trees of few leaves": (ROWS[:100, :2], 30, 8),
    "trees that are a leaf": (np.ones((100, 3)), 10, 64),
    "thresholds all in one place": (spiked(1000, 3), 50, 256),
    "one feature": (ROWS[:, :1], 20, 256),
}


@pytest.mark.parametrize("what", SHAPES)
def test_a_forest_of_any_shape_scores_as_scikit_learn_does(what: str) -> None:
    """Nobody promises 100 trees of 256 samples; a fleet's history has its own shape."""
    seen, trees, samples = SHAPES[what]
    theirs = IsolationForest(
        n_estimators=trees, max_samples=min(samples, len(seen)), random_state=3
    )
    theirs.fit(seen.astype(np.float32))
    forest = Forest(fit(seen, NAMES[: seen.shape[1]], 3, trees, samples))

    for rows in (seen, seen * 3):
        expected = theirs.score_samples(rows.astype(np.float32))
        np.testing.assert_allclose(forest.scores(rows), expected, rtol=0, atol=1e-12)
        alone = [forest.surprise(row[None])[0] for row in rows[:200]]
        np.testing.assert_array_equal(forest.surprise(rows)[:200], alone)


def test_what_decides_nothing_sends_all_to_the_left() -> None:
    """As in a file that no trainer of ours wrote: there is something below, never reached."""
    threshold = TREES.threshold.copy()
    threshold[:, 2] = np.inf
    forest = Forest(replace(TREES, threshold=threshold))

    walked = [math.fsum(leaves_of(row, threshold)) for row in ROWS[:60]]
    np.testing.assert_allclose(forest.depths(ROWS[:60]), walked, rtol=0, atol=1e-9)


@pytest.mark.parametrize("lengths", ["all alike", "no two alike"])
def test_path_lengths_of_any_kind_add_up(lengths: str) -> None:
    """Leaves are looked up by their length: a forest may have one length, or each its own."""
    shape = TREES.leaf.shape
    leaf = {
        "all alike": np.full(shape, 7.25),
        "no two alike": np.random.default_rng(5).uniform(1.0, 20.0, shape),
    }[lengths]
    trees = replace(TREES, leaf=leaf)
    walked = [math.fsum(leaves_of(row, trees.threshold, leaf)) for row in ROWS[:60]]
    np.testing.assert_allclose(Forest(trees).depths(ROWS[:60]), walked, rtol=0, atol=1e-9)
    np.testing.assert_allclose(Forest(trees).depths(ROWS[:1]), walked[:1], rtol=0, atol=1e-9)


def leaves_of(
    row: Array, thresholds: npt.NDArray[np.float32], leaves: Array = TREES.leaf
) -> Iterator[float]:
    for feature, threshold, leaf in zip(TREES.feature, thresholds, leaves, strict=True):
        node = 0
        while node < len(feature):
            node = 2 * node + 1 + int(np.float32(row[feature[node]]) > threshold[node])
        yield leaf[node - len(feature)]


@given(st.integers(0, 2900), st.sampled_from([1, 2, 3, 7, 40, 41, 128, 129, 500, 1025]))
@settings(max_examples=40, deadline=None)
def test_a_row_scores_the_same_bits_in_any_company(start: int, count: int) -> None:
    """Or replay would differ with what happened to arrive together."""
    alone = [FOREST.scores(ROWS[at : at + 1])[0] for at in range(start, min(start + count, 3000))]
    np.testing.assert_array_equal(FOREST.scores(ROWS[start : start + count]), alone)
    alone = [FOREST.surprise(ROWS[at : at + 1])[0] for at in range(start, min(start + count, 3000))]
    np.testing.assert_array_equal(FOREST.surprise(ROWS[start : start + count]), alone)


def test_a_row_isolated_by_one_feature_is_attributed_to_it() -> None:
    """A reason that names the wrong feature sends people the wrong way."""
    row = np.zeros(12)
    row[4] = 9.0
    shares = FOREST.shares(row[None])[0]
    assert shares.argmax() == 4
    saved = TREES.expected[:, 0].sum() - FOREST.depths(row[None])[0]
    assert shares.sum() == pytest.approx(saved, abs=1e-9)


def test_attribution_is_the_walk_s_and_the_same_bits_in_any_company() -> None:
    """A walk down every tree, split by split, is what a reader would check it against."""
    rows = ROWS[:150] * 2
    walked = np.array([walk(row) for row in rows])
    np.testing.assert_allclose(FOREST.shares(rows), walked, rtol=0, atol=1e-9)
    alone = [FOREST.shares(rows[at : at + 1])[0] for at in range(len(rows))]
    np.testing.assert_array_equal(FOREST.shares(rows), alone)


def test_shares_and_path_length_sum_to_the_same_bits_for_every_row() -> None:
    """What is attributed is the score, not nearly the score."""
    sums = FOREST.shares(ROWS[:300]).sum(axis=1) + FOREST.depths(ROWS[:300])
    assert set(sums.tolist()) == {sums[0]}
    assert sums[0] == pytest.approx(TREES.expected[:, 0].sum(), abs=1e-9)


def walk(row: Array) -> Array:
    length = np.concatenate([TREES.expected, TREES.leaf], axis=1)
    saved = np.zeros(len(row))
    for feature, threshold, of in zip(TREES.feature, TREES.threshold, length, strict=True):
        node = 0
        while node < len(feature):
            at = feature[node]
            child = 2 * node + 1 + int(np.float32(row[at]) > threshold[node])
            saved[at] += of[node] - of[child]
            node = child
    return saved


def test_surprise_is_mean_one_on_quiet_rows_and_grows_beyond_them() -> None:
    """It shares a line with the distance, so its unit must mean the same for every forest."""
    assert FOREST.surprise(ROWS).mean() == pytest.approx(1.0, abs=0.05)
    odd = FOREST.surprise(np.full((1, 12), 9.0))
    assert 8.0 < odd[0] <= 12.0


def test_the_same_rows_and_seed_give_the_same_file() -> None:
    """A manifest names a model by its hash."""
    assert save(fit(ROWS[:500], NAMES, 3)) == save(fit(ROWS[:500], NAMES, 3))


def test_a_file_gives_back_the_forest() -> None:
    """The worker's forest is the trainer's."""
    data = save(TREES)
    back = Forest(load(data, digest(data), "m1"))
    assert back.trees.uid == "m1"
    np.testing.assert_array_equal(back.scores(ROWS[:50]), FOREST.scores(ROWS[:50]))


MANY = np.random.default_rng(0)
FORGERIES = {
    "tables of gigabytes": {
        "feature": MANY.integers(0, 12, (200, 1023)).astype(np.int16),
        "threshold": MANY.normal(size=(200, 1023)).astype(np.float32),
        "leaf": MANY.uniform(1, 20, (200, 1024)),
        "expected": MANY.uniform(1, 20, (200, 1023)),
    },
    "another feature": {"feature": np.where(TREES.feature == 3, 12, TREES.feature)},
    "a negative feature": {"feature": TREES.feature - 1},
    "a threshold that is no number": {"threshold": TREES.threshold * np.float32(np.nan)},
    "an endless path": {"leaf": TREES.leaf + np.inf},
    "shapes that do not fit": {"leaf": TREES.leaf[:, :-1]},
    "other trees": {"threshold": TREES.threshold[:50]},
    "no usual path": {"usual": 0.0},
    "ranks out of order": {"ranks": TREES.ranks[::-1].copy()},
    "names that repeat": {"features": ("a",) * 12},
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_file_is_refused_though_its_hash_holds(what: str) -> None:
    """Whoever can write the manifest must still not be able to crash a worker."""
    data = save(replace(TREES, **FORGERIES[what]))  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UntrustedFile):
        load(data, digest(data))


WHITENING = np.random.default_rng(6).normal(size=(2, HORIZONS, 12, 12))
HISTORIES = {
    f"default/shop/{name}/": History(
        np.random.default_rng(at).uniform(0.1, 2.0, 12), np.where(np.arange(12), -1.0, np.inf),
        np.where(np.arange(12), 2.0, -np.inf), Residual(WHITENING[at]),
        Tail(3.0 + at, 0.7, 40 + at),
    )
    for at, name in enumerate(("web", "cart"))
}  # fmt: skip  # in the order of the class


def test_a_file_gives_back_what_histories_taught() -> None:
    """And one without any is the file that it always was."""
    data = save(replace(TREES, histories=HISTORIES))
    back = load(data, digest(data))
    assert back.histories.keys() == HISTORIES.keys()
    for group, history in HISTORIES.items():
        found = Forest(back).history(group)
        assert found is not None
        for name in ("spread", "low", "high"):
            assert np.array_equal(getattr(found, name), getattr(history, name))
        assert np.array_equal(found.residual.whitening, history.residual.whitening)
        assert found.tail == history.tail
    assert Forest(back).history("default/shop/other/") is None
    assert save(replace(back, histories={}, uid="")) == save(replace(TREES, uid=""))


def history_with(**changed: Any) -> dict[str, History]:
    return {"default/shop/web/": replace(HISTORIES["default/shop/web/"], **changed)}


FORGED_HISTORIES = {
    "no spread": history_with(spread=np.zeros(12)),
    "a spread that is no number": history_with(spread=np.full(12, np.nan)),
    "an endless spread": history_with(spread=np.full(12, np.inf)),
    "too few features": history_with(spread=np.ones(11)),
    "a range that is no number": history_with(low=np.full(12, np.nan)),
    "an endless range": history_with(low=np.full(12, -np.inf)),
    "whitening that is no number": history_with(residual=Residual(WHITENING[0] * np.nan)),
    "whitening of other horizons": history_with(residual=Residual(WHITENING[0][:2])),
    "whitening out of reach": history_with(residual=Residual(WHITENING[0] * 1e9)),
    "a tail without excess": history_with(tail=Tail(3.0, 0.0, 4)),
    "a tail that is no number": history_with(tail=Tail(math.nan, 1.0, 4)),
    "half a block": history_with(tail=Tail(3.0, 1.0, 4.5)),  # type: ignore[arg-type]  # wrong on purpose
    "too many": {f"default/shop/{at}/": HISTORIES["default/shop/web/"] for at in range(4_097)},
}


@pytest.mark.parametrize("what", FORGED_HISTORIES)
def test_forged_histories_are_refused_though_their_hash_holds(what: str) -> None:
    """A spread of nothing would call every sample, an endless one none."""
    data = save(replace(TREES, histories=FORGED_HISTORIES[what]))
    with pytest.raises(UntrustedFile):
        load(data, digest(data))


def test_histories_that_are_not_whole_are_refused() -> None:
    """Or two of one group: which of them would count?"""
    data = save(replace(TREES, histories=HISTORIES))
    for name, array in (("groups", None), ("tail", None), ("groups", np.array(["a", "a"]))):
        target = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as given, zipfile.ZipFile(target, "w") as made:
            for entry in given.infolist():
                body = io.BytesIO(given.read(entry))
                if entry.filename == f"{name}.npy":
                    if array is None:
                        continue
                    body = io.BytesIO()
                    np.lib.format.write_array(body, array, allow_pickle=False)
                made.writestr(entry.filename, body.getvalue())
        with pytest.raises(UntrustedFile):
            load(target.getvalue(), digest(target.getvalue()))


def test_a_file_with_another_hash_a_pickle_or_rubbish_is_refused() -> None:
    """Nothing is unpickled, and nothing unchecked is opened."""
    data = save(TREES)
    with pytest.raises(UntrustedFile, match="SHA-256"):
        load(data, digest(data + b" "))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("format", "features", "feature", "threshold", "leaf", "usual", "ranks",
                     "expected"):  # fmt: skip
            body = io.BytesIO()
            np.lib.format.write_array(body, np.array([{}], object), allow_pickle=True)
            archive.writestr(f"{name}.npy", body.getvalue())
    for bad in (target.getvalue(), b"", b"PK\x03\x04 no", data[:-40]):
        with pytest.raises(UntrustedFile):
            load(bad, digest(bad))


def test_too_few_rows_or_a_value_that_is_not_finite_trains_nothing() -> None:
    """A forest of nothing would find everything odd, or nothing."""
    with pytest.raises(ShapeMismatch):
        fit(ROWS[:10], NAMES, 1)
    with pytest.raises(ShapeMismatch):
        fit(np.where(ROWS > 3, np.nan, ROWS), NAMES, 1)
    with pytest.raises(ShapeMismatch):
        FOREST.scores(ROWS[:, :5])
