"""How strange a row is against a whole history: alone, together, and where rows are sparse."""

from __future__ import annotations

import numpy as np

from models.detectors import nearest
from models.features import Array

COLUMNS = 4
RNG = np.random.default_rng(4)
DENSE = RNG.normal(0, 0.05, (500, COLUMNS))
SPARSE = RNG.normal(0, 0.8, (60, COLUMNS)) + 6.0
BOTH = np.concatenate([DENSE, SPARSE])


def strangeness(history: Array, *rows: list[float]) -> list[float]:
    told = nearest.learned([history], COLUMNS).strangeness(np.array(rows))
    return [float(value) for value in told]


def test_as_far_from_the_rest_is_less_strange_where_rows_lie_far_apart() -> None:
    """A burst is never like the one before; a quiet minute always is."""
    off = np.full(COLUMNS, 0.9) * [1, -1, 1, -1]
    busy, calm = strangeness(BOTH, (SPARSE[7] + off).tolist(), (DENSE[7] + off).tolist())
    assert calm > busy + 0.7


def test_usual_values_that_never_came_together_are_strange() -> None:
    """Each column has been at 0 and at 6, but all have been at once."""
    mixed, usual = strangeness(BOTH, [0.0, 6.0, 0.0, 6.0], [6.0, 6.0, 6.0, 6.0])
    assert mixed > usual + 0.7


def test_beyond_all_that_was_ever_seen_is_stranger_than_between() -> None:
    """At the same distance from the nearest row."""
    history = np.array([[0.0] * COLUMNS, [4.0] * COLUMNS] * 10)
    between, beyond = strangeness(history, [1.0] * COLUMNS, [-1.0] * COLUMNS)
    assert beyond > between


def test_what_is_missing_is_left_out() -> None:
    """Silence is neither far from anything nor near to it."""
    whole, part, nothing = strangeness(
        BOTH, [3.0] * COLUMNS, [3.0, 3.0, np.nan, np.nan], [np.nan] * COLUMNS
    )
    assert abs(whole - part) < 0.8
    assert nothing < part - 2.0
    holes = BOTH.copy()
    holes[::3, 1] = np.nan
    holes[:, 2] = np.nan
    assert np.isfinite(strangeness(holes, [3.0, 3.0, 3.0, np.nan], [0.0] * COLUMNS)).all()


def test_without_a_history_a_row_is_held_against_the_usual() -> None:
    """A new image has one to be compared with all the same."""
    usual, far = strangeness(np.empty((0, COLUMNS)), [0.0] * COLUMNS, [5.0] * COLUMNS)
    assert far > usual + 2.0


def test_of_a_long_history_what_was_rare_is_remembered() -> None:
    """What came once in a week is no news when it comes again."""
    rows = RNG.normal(0, 1, (20_000, COLUMNS))
    rows[4_321] = [9.0, -9.0, 9.0, -9.0]
    once = rows[4_321].tolist()
    (again,), (never,) = strangeness(rows, once), strangeness(np.delete(rows, 4_321, 0), once)
    assert again < never - 3.0
    assert len(nearest.learned([rows], COLUMNS).rows) <= 3_000


def test_a_row_gets_the_same_bits_in_any_company() -> None:
    """Replayed row by row it must come out as it did at once."""
    memory = nearest.learned([BOTH], COLUMNS)
    rows = RNG.normal(0, 4, (97, 2, COLUMNS))
    rows[5, 1, 2] = np.nan
    whole = memory.strangeness(rows)
    np.testing.assert_array_equal(whole[40], memory.strangeness(rows[40]))
    np.testing.assert_array_equal(whole[5:6], memory.strangeness(rows[5:6]))
