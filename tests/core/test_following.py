"""Levels follow slowly, are found quickly at the start, and learn nothing from what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from models.features import Array
from models.following import HORIZONS, anew, follow, settled


def rows(*values: float) -> Array:
    return np.array(values)[:, None, None]


def test_an_incident_does_not_become_normal_while_it_lasts() -> None:
    """Three wild rows move no level by more than three weights; else the end of every
    incident would look like another one.
    """
    after, off = follow(settled(1, 1), rows(30.0, 30.0, 30.0, 0.0))
    assert off[2, 0, 0, 0] > 29.0
    assert abs(off[3, 0, 0, 0]) < 0.5
    assert np.abs(after.levels).max() < 0.5


def test_at_the_start_of_a_watch_levels_are_found_at_once() -> None:
    """History may have ended long before."""
    _, sure = follow(settled(1, 1), rows(*[5.0] * 8))
    _, new = follow(anew(settled(1, 1)), rows(*[5.0] * 8))
    assert (sure[7, 0, :2] > 3.0).all()
    assert (new[7, 0, :2] < 2.0).all()


def test_each_horizon_sees_what_the_shorter_forgets() -> None:
    """A spike, a step, what is small but stays."""
    _, off = follow(settled(1, 1), rows(*[0.9] * 60))
    short, middle, long = off[59, 0, :, 0]
    assert short < 0.1 < middle < 0.4 < long


def test_what_is_missing_departs_from_nothing_and_teaches_nothing() -> None:
    before, _ = follow(anew(settled(1, 2)), np.array([[[1.0, 2.0]]] * 30))
    after, off = follow(before, np.array([[[np.nan, 2.0]]] * 5))
    assert off.shape == (5, 1, HORIZONS, 2)
    assert (off[..., 0] == 0.0).all()
    assert after.levels[0, 0, 0] == before.levels[0, 0, 0]
    assert after.levels[0, 0, 1] == pytest.approx(2.0, abs=0.05)
