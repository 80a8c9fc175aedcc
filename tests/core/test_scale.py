"""One scale for all columns and siblings, whatever their units and gaps."""

from __future__ import annotations

import numpy as np
import pytest

from models.scale import learned, measured

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(2000, 3)) * [1.0, 10.0, 0.0] + [0.0, 500.0, 7.0]


def test_the_spread_is_the_standard_deviation_of_what_is_normal() -> None:
    """So that a threshold means the same for bytes and for ratios."""
    scale = learned([ROWS])
    np.testing.assert_allclose(scale.spread[:2], [1.0, 10.0], rtol=0.1)
    np.testing.assert_allclose(scale.location, [[0.0, 500.0, 7.0]], atol=1.0)


def test_a_dead_column_borrows_the_spread_of_those_that_move() -> None:
    """Otherwise its first new value is endlessly far."""
    scale = learned([ROWS])
    assert scale.spread[2] == pytest.approx(np.median(scale.spread[:2]))


def test_siblings_keep_their_own_level_and_share_the_spread() -> None:
    """A replica that always runs hotter is not odd for it, and teaches how far it varies."""
    scale = learned([ROWS, ROWS + np.array([100.0, 0.0, 0.0])])
    assert scale.location[1, 0] - scale.location[0, 0] == pytest.approx(100.0)
    np.testing.assert_allclose(scale.spread, learned([ROWS]).spread)


def test_gaps_change_neither_level_nor_spread_by_much() -> None:
    gaps = np.where(RNG.random(ROWS.shape) < 0.2, np.nan, ROWS)
    np.testing.assert_allclose(learned([gaps]).spread, learned([ROWS]).spread, rtol=0.1)
    np.testing.assert_allclose(learned([gaps]).location, learned([ROWS]).location, atol=1.0)


def test_what_is_endless_or_absurd_is_no_measurement() -> None:
    rows = np.array([[1.0, np.inf, -np.inf, 1e19, -1e19, 1e17]])
    assert np.isnan(measured(rows)).tolist() == [[False, True, True, True, True, False]]
