"""What a run comes to depends on its own rows alone, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features import Array
from models.runs import Runs

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def values(count: int, *shape: int) -> Array:
    """Of very different sizes, so that another order of adding is another sum."""
    rng = np.random.default_rng(count)
    return rng.normal(size=(count, *shape)) * 10.0 ** rng.integers(-8, 8, (count, *shape))


def parts(lengths: list[int], rows: Array) -> list[Array]:
    return np.split(rows, np.cumsum(lengths)[:-1])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@given(lengths=LENGTHS)
def test_sums_are_those_of_each_run_alone(shape: tuple[int, ...], lengths: list[int]) -> None:
    """Else a verdict would depend on who happened to arrive at the same time."""
    rows = values(sum(lengths), *shape)

    together = Runs(np.array(lengths)).together(np.add, rows)

    for length, part, found in zip(lengths, parts(lengths, rows), together, strict=True):
        (alone,) = Runs(np.array([length])).together(np.add, part)
        np.testing.assert_array_equal(found, alone)
        in_order = part[0]
        for row in part[1:]:
            in_order = in_order + row
        np.testing.assert_array_equal(found, in_order)


@given(lengths=LENGTHS)
def test_the_rest_is_what_it_is_called(lengths: list[int]) -> None:
    """Largest, last, running sums and upper medians, run by run."""
    rows, runs = values(sum(lengths)), Runs(np.array(lengths))

    for at, part in enumerate(parts(lengths, rows)):
        assert runs.most(rows)[at] == part.max()
        assert runs.ends(rows)[at] == part[-1]
        assert runs.middle(rows)[at] == sorted(part)[len(part) // 2]
        mine = runs.of == at
        np.testing.assert_array_equal(runs.added_up(rows)[mine], np.add.accumulate(part))
        np.testing.assert_array_equal(
            runs.each_with(np.subtract, rows, runs.most(rows))[mine], part - part.max()
        )


def test_neighbours_of_one_key_are_a_run() -> None:
    """The same key further on is another run."""
    runs, keys = Runs.of_equal(np.array([7, 7, 3, 7, 7, 7]))

    assert keys.tolist() == [7, 3, 7]
    assert runs.length.tolist() == [2, 1, 3]
    assert not Runs.of_equal(np.array([], int))[1].size
