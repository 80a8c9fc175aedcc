"""What a forest calls as rare as one in N comes once in N, or it is told that it does not."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration import STRETCHES, off, rarer, stretches_won
from models.features import Array


def as_promised(rows: int, seed: int = 0) -> Array:
    """Surprises of which one in N is rarer than one in N, in no order."""
    kept = -np.log((np.arange(rows) + 0.5) / rows)
    return np.random.default_rng(seed).permutation(kept)


def test_a_promise_that_few_rows_can_tell_of_is_left_out() -> None:
    """Of a hundred rows none says anything of one in a thousand."""
    assert rarer(as_promised(1_000)) == {10: 100, 30: 33, 100: 10}
    assert rarer(as_promised(20_000)).keys() == {10, 30, 100, 300, 1_000}


@pytest.mark.parametrize("times", [0.25, 4.0])
def test_too_often_and_too_seldom_are_as_far_off(times: float) -> None:
    """Blind to what is rare here is no better than crying wolf."""
    assert off(as_promised(20_000)) == pytest.approx(0.0, abs=0.01)
    assert off(as_promised(20_000) + np.log(times)) == pytest.approx(np.log(4.0), rel=0.1)


def test_who_is_better_is_so_whichever_stretch_is_left_out() -> None:
    """One strange hour must not decide which forest serves for weeks."""
    kept, steady = as_promised(3_000), as_promised(3_000, seed=1) + 1.0
    assert stretches_won(kept, steady) == STRETCHES
    assert stretches_won(steady, kept) == 0
    assert stretches_won(kept, kept) == 0, "as good is not better"
    strange = kept.copy()
    strange[:300] += 2.0
    assert 0 < stretches_won(kept + 0.12, strange) < STRETCHES
