"""What blocks teach, and what they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from models.baseline import Baseline, Block, fold, pooled
from models.budget import Tail, allowed
from models.features import NOISE, SIZE, Array


def block(level: float, spread: float = 0.2) -> Block:
    full = np.ones(SIZE)
    return Block(0, level * full, spread * full, 0 * full, (level - 3 * spread) * full,
                 (level + 3 * spread) * full, 0 * full, 3)  # fmt: skip


def taught(*levels: float) -> Baseline:
    base = Baseline()
    for level in levels:
        base = fold(base, block(level))
    return base


def test_a_baseline_finds_the_level_and_the_spread() -> None:
    """Every deviation is in its unit."""
    rng = np.random.default_rng(1)
    base = taught(*(5 + rng.normal(0, 0.05, 40)))
    assert base.location[0] == pytest.approx(5, abs=0.05)
    assert 0.2 <= base.scale[0] <= 0.35
    assert base.learned(4, 12) == 1.0


def test_one_wild_block_moves_a_known_level_by_little() -> None:
    """A single false block must not make the next attack normal."""
    base = taught(*[5.0] * 20)
    after = fold(base, block(50.0))
    assert abs(after.location[0] - 5) <= 4 * base.scale[0] * 0.05 + 1e-9


def test_a_feature_that_never_moves_borrows_its_relative_noise() -> None:
    """Otherwise one byte in a dead column is infinitely rare."""
    base = Baseline()
    for _ in range(30):
        base = fold(base, block(1.0, 0.0))
    np.testing.assert_allclose(base.scale, NOISE * (1 + 2 / 30))


def test_a_feature_that_was_not_measured_stays_unknown_alone() -> None:
    """Missing is missing, and no neighbour pays for it."""
    void = np.where(np.arange(SIZE) == 2, np.nan, 1.0)
    base = fold(Baseline(), Block(0, void, void, void, void, void, np.zeros(SIZE), 3))
    assert np.isnan(base.location[2])
    assert base.blocks.tolist() == [0.0 if at == 2 else 1.0 for at in range(SIZE)]
    assert fold(base, block(7.0)).location[2] == 7.0


def test_a_successor_inherits_the_level_but_not_the_trust() -> None:
    """A new version may differ: it learns anew from a good first guess."""
    heir = taught(*[5.0] * 30).inherited()
    assert heir.location[0] == pytest.approx(5.0)
    assert heir.learned(4, 12) == 0.0
    assert fold(heir, block(9.0)).location[0] == pytest.approx(7.0)


def test_one_odd_sibling_moves_no_pooled_level() -> None:
    """Pooling is by median: the majority decides what is normal."""
    means: Array = np.array([[1.0], [1.1], [40.0]]) * np.ones(SIZE)
    small = np.full((3, SIZE), 0.1)
    made = pooled(means, small, means, means, 0 * means, 0 * means, 0)
    assert made is not None
    assert made.location[0] == pytest.approx(1.1)


def test_the_line_keeps_the_budget_on_an_exponential_tail() -> None:
    """Without a label: N a day means N a day."""
    rng = np.random.default_rng(3)
    tail, peaks = Tail(), 2.0 + rng.exponential(0.5, 20_000)
    over = 0
    for at, peak in enumerate(peaks):
        if at > 2_000:
            over += peak > tail.line(allowed(10.0, 60.0), 0.0, 0.0, 99.0)
        tail = tail.after(peak)
    days = 18_000 / 1440
    assert 0.3 * 10 * days < over < 3 * 10 * days


def test_noise_lifts_the_line_no_further_than_its_bound() -> None:
    """An attacker's noise must not lift it out of the way."""
    tail = Tail()
    for _ in range(5_000):
        tail = tail.after(1_000.0)
    assert tail.line(allowed(1.0, 60.0), 0.0, 6.0, 12.0) == 12.0
    assert Tail().after(1_000.0).line(allowed(1.0, 60.0), 0.0, 6.0, 12.0) < 8.0
