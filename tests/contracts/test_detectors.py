"""What every detector of magnitudes keeps: it is pure, bounded, and judges a row by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.detectors import distance, nearest, residual, unseen
from models.detectors.forest import Forest
from models.features import NAMES, SIZE, Array
from models.training import fit

QUIET = np.random.default_rng(2).normal(0, 1, (800, SIZE))
FOREST = Forest(fit(QUIET, NAMES, seed=2))


def by_distance(rows: Array) -> Array:
    """Without siblings: each container alone."""
    nothing = np.zeros((1, 2 * SIZE))
    whole = np.concatenate([rows, rows / 4], axis=1)
    return np.array([
        distance.evidence(row[None], nothing, nothing, np.full(SIZE, 0.35))[0].max()
        for row in np.clip(whole, -distance.MOST, distance.MOST)
    ])  # fmt: skip


USUAL = residual.learned(QUIET[:, None])
SEEN = unseen.seen_in([QUIET], SIZE)


def by_residual(rows: Array) -> Array:
    return USUAL.distance(rows[:, None])[:, 0]


def by_unseen(rows: Array) -> Array:
    """Each row as the first after the same history."""
    both = unseen.Range(np.repeat(SEEN.low, len(rows), 0), np.repeat(SEEN.high, len(rows), 0))
    return np.asarray(np.minimum(unseen.beyond(both, rows[None])[1][0], MOST))


MEMORY = nearest.learned([QUIET], SIZE)


def by_nearest(rows: Array) -> Array:
    return np.asarray(np.exp(MEMORY.strangeness(np.clip(rows, -distance.MOST, distance.MOST))))


MOST = distance.MOST / 0.35
DETECTORS: dict[str, Callable[[Array], Array]] = {
    "forest": FOREST.surprise,
    "distance": by_distance,
    "farthest": lambda rows: distance.farthest(np.clip(rows, -distance.MOST, distance.MOST)),
    "residual": by_residual,
    "unseen": by_unseen,
    "nearest": by_nearest,
}


@pytest.fixture(params=DETECTORS)
def detector(request: pytest.FixtureRequest) -> Callable[[Array], Array]:
    return DETECTORS[request.param]


def test_the_same_rows_give_the_same_evidence(detector: Callable[[Array], Array]) -> None:
    """Replay equals live."""
    np.testing.assert_array_equal(detector(QUIET[:50]), detector(QUIET[:50].copy()))


def test_a_row_is_judged_by_itself(detector: Callable[[Array], Array]) -> None:
    """Whatever else came in the same call."""
    whole = detector(QUIET[:60])
    np.testing.assert_array_equal(detector(QUIET[10:11]), whole[10:11])
    np.testing.assert_array_equal(detector(QUIET[:60][::-1]), whole[::-1])


def test_evidence_is_finite_not_negative_and_bounded(detector: Callable[[Array], Array]) -> None:
    """Lines can be compared only if nothing is endless."""
    wild = np.concatenate([QUIET, QUIET * 1e6, np.zeros((1, SIZE))])
    evidence = detector(wild)
    assert np.isfinite(evidence).all()
    assert evidence.min() >= 0.0
    assert evidence.max() <= 3 * distance.MOST / 0.35


def test_the_odd_speak_louder_than_the_usual(detector: Callable[[Array], Array]) -> None:
    """Or it detects nothing."""
    odd = QUIET[:100] + 8.0
    assert np.median(detector(odd)) > 1.9 * np.quantile(detector(QUIET), 0.95)


def test_rows_are_left_as_they_were(detector: Callable[[Array], Array]) -> None:
    """Values in, values out."""
    rows = QUIET[:20].copy()
    detector(rows)
    np.testing.assert_array_equal(rows, QUIET[:20])


def test_no_rows_give_no_evidence(detector: Callable[[Array], Array]) -> None:
    """A batch of duplicates is empty."""
    assert detector(QUIET[:0]).shape == (0,)


def test_siblings_excuse_but_never_accuse() -> None:
    """One that stays calm while the others are busy has done nothing."""
    off = np.zeros((4, 2 * SIZE))
    off[:3, 0] = 10.0
    evidence, _ = distance.evidence(off, *distance.shared(off), np.full(SIZE, 0.35))
    assert evidence[3].max() == 0.0
    assert evidence[0].max() < 1.0
    off[1:3, 0] = 0.0
    evidence, _ = distance.evidence(off, *distance.shared(off), np.full(SIZE, 0.35))
    assert evidence[0, 0] == 10.0


def test_what_moves_together_may_and_what_never_did_may_not() -> None:
    """The residual sees a combination of small departures that distance cannot."""
    rng = np.random.default_rng(5)
    load = rng.normal(0, 1, (2000, 1))
    usual = residual.learned((load + rng.normal(0, 0.1, (2000, 4)))[:, None])
    together, apart = np.full((1, 1, 4), 2.0), np.array([[[2.0, -2.0, 2.0, -2.0]]])
    assert distance.farthest(together) == distance.farthest(apart)
    assert usual.distance(apart) > 5 * usual.distance(together)


def test_what_was_once_beyond_is_seen_from_then_on() -> None:
    """A new level is news once."""
    rows = np.array([5.0, 5.0, 6.0, -9.0, 2.0])[:, None, None]
    after, past = unseen.beyond(unseen.seen_in([np.array([[0.0], [3.0]])], 1), rows)
    assert past[:, 0].tolist() == [2.0, 0.0, 1.0, 9.0, 0.0]
    assert (after.low.item(), after.high.item()) == (-9.0, 6.0)


def test_nothing_seen_yet_means_nothing_beyond() -> None:
    """The first row of all is the first guess, no news."""
    rows = np.array([[5.0, np.nan], [7.0, 1.0]])[:, None]
    _, past = unseen.beyond(unseen.seen_in([], 2), rows)
    assert past[:, 0].tolist() == [0.0, 2.0]
