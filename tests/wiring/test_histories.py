"""What containers were like, kept while a window is judged anew: enough, never too much."""

from __future__ import annotations

import numpy as np
import pytest

from models import history
from models.features import SIZE, Array
from streams.histories import Histories


def rows_of(seed: int, count: int) -> Array:
    return np.random.default_rng(seed).normal(size=(count, SIZE))


def test_a_group_of_few_samples_is_left_to_its_baseline() -> None:
    """A hundred rows tell less than a baseline that goes on learning."""
    histories = Histories()
    histories.add("default/shop/web/", 1, {"a": rows_of(1, 130), "b": rows_of(2, 126)})
    histories.add("default/shop/cart/", 1, {"c": rows_of(3, 255)})

    assert list(histories.learned()) == ["default/shop/web/"]


def test_parts_are_one_history_in_their_order() -> None:
    """Levels follow a container from one batch to the next."""
    whole, parts = Histories(), Histories()
    rows = rows_of(4, 600).cumsum(axis=0)
    whole.add("g", 600, {"a": rows})
    for start in range(0, 600, 7):
        parts.add("g", start, {"a": rows[start : start + 7]})

    one, other = whole.learned()["g"], parts.learned()["g"]
    assert np.array_equal(one.residual.whitening, other.residual.whitening)
    assert one.tail == other.tail


def test_a_large_fleet_is_kept_by_less_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the newest samples stay, and no container is left out."""
    histories = Histories(most_rows=6_000)
    for turn in range(40):
        for at in range(10):
            histories.add(f"g{at}", turn, {"a": np.full((100, SIZE), float(turn))})
    kept: list[Array] = []
    learned = history.learned

    def noted(rows: list[Array]) -> history.History:
        kept.extend(rows)
        return learned(rows)

    monkeypatch.setattr("models.history.learned", noted)

    assert len(histories.learned()) == 10

    assert all(history.LEAST_ROWS <= len(rows) <= 1_024 for rows in kept)
    assert all(rows[-1, 0] == 39.0 for rows in kept)


def test_what_no_file_would_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who trains is told which lineages stay with their baselines."""
    monkeypatch.setattr("streams.histories.MOST_HISTORIES", 1)
    histories = Histories()
    for group in ("g", "h", "g", "h"):
        histories.add(group, 1, {"a": rows_of(5, 300)})

    assert list(histories.learned()) == ["g"]
    assert histories.left_out == {"h"}


def test_what_came_just_before_somebody_was_called_is_doubted() -> None:
    """Nobody is called at once: the first minute of an attack must not widen what is usual."""
    histories, calm = Histories(), Histories()
    for second in range(1_000):
        strange = 50.0 if second >= 900 else 0.0
        histories.add("g", second * 10**9, {"a": rows_of(second, 1) + strange})
        if second < 880:
            calm.add("g", second * 10**9, {"a": rows_of(second, 1)})

    assert histories.learned()["g"].high.max() > 10.0
    histories.doubt("g", 1_000 * 10**9)

    assert np.array_equal(histories.learned()["g"].high, calm.learned()["g"].high)
    histories.doubt("h", 1_000 * 10**9)
