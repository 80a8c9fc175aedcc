"""Any columns are learned and judged row by row: causal, the same however cut, never lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.budget import Flags
from models.detectors import unseen
from models.errors import ShapeMismatch
from models.features import Array
from models.watch import NOTHING, Watch, judge, judge_together, learn

PER_ROW, MERGE = 1 / 1440, 60
COLUMNS = 6


def quiet(rows: int, seed: int, columns: int = COLUMNS) -> Array:
    """Drifting load that all columns share, and noise."""
    rng = np.random.default_rng(seed)
    load = np.cumsum(rng.normal(0, 0.05, rows))[:, None]
    return np.asarray(10 + load + rng.normal(0, 1, (rows, columns)))


HISTORIES = [quiet(600, 1), quiet(600, 2)]
ROWS = np.stack([quiet(400, 3), quiet(400, 4)], axis=1)


def judged(
    rows: Array, *, histories: list[Array] | None = None, cuts: tuple[int, ...] = ()
) -> Array:
    """Margins and alarms, stacked: (2, rows, members)."""
    watch = learn(HISTORIES if histories is None else histories, PER_ROW, MERGE)
    parts = [judge(watch, part) for part in np.split(rows, cuts)]
    return np.stack([np.concatenate(side).astype(float) for side in zip(*parts, strict=True)])


def struck(at: int, member: int, by: float = 30.0) -> Array:
    rows = ROWS.copy()
    rows[at : at + 4, member, :3] += by
    return rows


def test_a_fault_is_told_at_once_and_of_its_member_alone() -> None:
    _, alarms = judged(struck(200, 1))
    assert alarms[200, 1]
    assert not alarms[150:300, 0].any()


def test_rows_that_come_later_change_nothing_earlier_bit_for_bit() -> None:
    """Evaluating with what comes later would flatter us."""
    changed = ROWS.copy()
    changed[250:] = 1e6 * np.random.default_rng(0).normal(size=changed[250:].shape)
    np.testing.assert_array_equal(judged(ROWS)[:, :250], judged(changed)[:, :250])


@given(st.lists(st.integers(1, 399), max_size=6, unique=True).map(sorted).map(tuple))
@settings(max_examples=15, deadline=None)
def test_rows_give_the_same_bits_however_they_are_cut_into_calls(cuts: tuple[int, ...]) -> None:
    """One row at a time, as it comes live, or a history in one go."""
    np.testing.assert_array_equal(judged(struck(200, 1), cuts=cuts), judged(struck(200, 1)))


def test_a_member_that_never_speaks_changes_nothing_for_its_siblings() -> None:
    """Nor does one that has ended."""
    alone = judged(ROWS[:, :1], histories=HISTORIES[:1])
    absent = np.full_like(ROWS[:, :1], np.nan)
    both = judged(np.concatenate([ROWS[:, :1], absent], axis=1), histories=[HISTORIES[0]] * 2)
    np.testing.assert_array_equal(both[:, :, :1], alone)
    assert (both[0, :, 1] == NOTHING).all()
    assert not both[1, :, 1].any()


def test_what_is_missing_is_no_departure_and_teaches_nothing() -> None:
    """A value that fails to arrive is silence, which others judge; not a fall to zero."""
    rows = ROWS.copy()
    rows[100:120, 0, 2] = np.nan
    margins, alarms = judged(rows)
    assert np.isfinite(margins).all()
    assert not alarms[100:125, 0].any()
    np.testing.assert_allclose(margins[250:, 0], judged(ROWS)[0, 250:, 0], atol=0.5)


def test_a_column_that_is_missing_or_constant_throughout_changes_little() -> None:
    """Dead columns are common, and must not make one new value endlessly rare."""

    def with_column(rows: Array, value: float) -> Array:
        return np.concatenate([rows, np.full((*rows.shape[:-1], 1), value)], axis=-1)

    for value in (np.nan, 7.0):
        wide = [with_column(history, value) for history in HISTORIES]
        margins, alarms = judged(with_column(struck(200, 1), value), histories=wide)
        assert np.isfinite(margins).all()
        assert alarms[200, 1]
        assert alarms.sum() <= judged(struck(200, 1))[1].sum() + 3


def test_one_new_value_in_a_dead_column_is_seen() -> None:
    """It borrows the spread of the columns that move."""
    histories = [np.concatenate([h, np.zeros((600, 1))], axis=1) for h in HISTORIES]
    rows = np.concatenate([ROWS, np.zeros((400, 2, 1))], axis=2)
    rows[200, 0, -1] = 40.0
    margins, alarms = judged(rows, histories=histories)
    assert alarms[200, 0]
    assert margins[200, 0] < 20.0


@pytest.mark.parametrize("rows", [0, 1, 2, 9])
def test_no_history_or_next_to_none_still_gives_finite_answers(rows: int) -> None:
    """A container that has just started is watched as well as may be."""
    margins, alarms = judged(ROWS, histories=[HISTORIES[0][:rows], HISTORIES[1][:rows]])
    assert np.isfinite(margins).all()
    assert alarms.mean() < 0.05


def test_one_without_history_is_watched_by_what_its_sibling_taught() -> None:
    """A new replica needs no learning of its own."""
    _, alarms = judged(struck(200, 1), histories=[HISTORIES[0], HISTORIES[1][:0]])
    assert alarms[200, 1]
    assert alarms[:, 1].sum() < 12


def test_siblings_make_a_short_history_longer() -> None:
    """An hour of one pod cannot hold a budget; an hour of ten knows more of the tail."""
    alone = learn([quiet(120, 1)], 1e-4, MERGE).line
    pooled = learn([quiet(120, seed) for seed in range(10)], 1e-4, MERGE).line
    copied = learn([quiet(120, 1)] * 10, 1e-4, MERGE).line
    assert pooled.height() - pooled.tail.reached(1e-3) < alone.height() - alone.tail.reached(1e-3)
    assert copied.height() == alone.height()


def test_quiet_rows_alarm_about_as_often_as_allowed() -> None:
    """N a day means about N a day, over 32 days, with heavy tails and a level that drifts."""
    count, rng = 0, np.random.default_rng(9)
    for seed in range(4):
        days = [quiet(4000, 100 + seed), quiet(11_520, 200 + seed)]
        history, rows = (part + rng.standard_t(3, part.shape) for part in days)
        _, alarms = judged(rows[:, None], histories=[history])
        count += len(tickets(alarms[:, 0]))
    assert 0.4 * 32 <= count <= 1.5 * 32


def tickets(alarms: Array) -> list[int]:
    opened: list[int] = []
    for at in np.flatnonzero(alarms).tolist():
        if not opened or at > opened[-1] + MERGE:
            opened.append(at)
    return opened


def test_rows_of_another_shape_are_refused() -> None:
    """Silently judging another column would be worse than stopping."""
    watch = learn(HISTORIES, PER_ROW, MERGE)
    with pytest.raises(ShapeMismatch):
        judge(watch, ROWS[:, :, :-1])
    with pytest.raises(ShapeMismatch):
        judge(watch, ROWS[:, :1])
    with pytest.raises(ShapeMismatch):
        learn([HISTORIES[0], HISTORIES[1][:, :2]], PER_ROW, MERGE)
    with pytest.raises(ShapeMismatch):
        learn([], PER_ROW, MERGE)


@pytest.mark.parametrize("wild", [np.inf, -np.inf, 1e300, -1e300, np.nan])
def test_what_is_no_measurement_is_missing_in_history_and_watch(wild: float) -> None:
    """One broken counter must neither break a baseline nor call anybody."""
    histories, rows = [history.copy() for history in HISTORIES], ROWS.copy()
    histories[0][50, 2] = rows[150, 0, 2] = wild
    margins, alarms = judged(rows, histories=histories)
    assert np.isfinite(margins).all()
    assert not alarms[140:160, 0].any()


def test_without_a_budget_only_the_unheard_of_alarms_if_anything() -> None:
    """Nothing is allowed, and nothing is divided by it."""
    watch = learn(HISTORIES, 0.0, MERGE)
    margins, alarms = judge(watch, ROWS)
    assert np.isfinite(margins).all()
    assert not alarms.any()


def test_an_unusual_combination_of_usual_values_is_stranger_than_a_usual_one() -> None:
    """What moves together may move; distance alone cannot tell the two apart."""
    rng = np.random.default_rng(8)

    def load(rows: int) -> Array:
        return np.asarray(rng.normal(0, 1, (rows, 1)) + rng.normal(0, 0.1, (rows, 4)))

    history, together = load(2000), load(30)
    together[20] = [2.5, 2.5, 2.5, 2.5]
    apart = together.copy()
    apart[20] = [2.5, -2.5, 2.5, -2.5]
    usual, odd = (judged(rows[:, None], histories=[history])[0] for rows in (together, apart))
    assert odd[20, 0] > usual[20, 0] + 0.4


def test_what_a_sibling_has_shown_is_seen_while_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is drawn for a member that is held against all, not against itself alone."""
    rows_known = []
    seen_in = unseen.seen_in

    def noted(histories: Sequence[Array], columns: int) -> unseen.Range:
        rows_known.append(sum(map(len, histories)))
        return seen_in(histories, columns)

    monkeypatch.setattr(unseen, "seen_in", noted)
    learn([quiet(100, 1), quiet(80, 2)], PER_ROW, MERGE)
    learn([quiet(100, 1)], PER_ROW, MERGE)
    assert rows_known == [80, 100, 180, 50, 100]


def together(*images: Array) -> list[Flags]:
    """Alarms of images with a member each, side by side."""
    watches: list[Watch] = [learn([HISTORIES[0]], PER_ROW, MERGE) for _ in images]
    return [alarms for _, alarms in judge_together(watches, [image[:, None] for image in images])]


def test_of_many_images_that_depart_at_once_the_farthest_calls_for_all() -> None:
    """A fault of one service shows in all that call it: that is one incident, not five."""
    hit = [struck(200, 0, by)[:, 0] for by in (30.0, 60.0, 20.0)]
    one, worst, third = (alarms[195:210, 0] for alarms in together(*hit))
    assert worst.any()
    assert not one.any()
    assert not third.any()


def test_what_departs_with_few_others_or_at_another_time_calls_for_itself() -> None:
    """Two at once may be chance."""
    quiet_one = ROWS[:, 0]
    few = together(struck(200, 0)[:, 0], struck(200, 0, 60.0)[:, 0], quiet_one)
    assert [bool(alarms[195:210].any()) for alarms in few] == [True, True, False]
    apart = together(*(struck(at, 0)[:, 0] for at in (150, 200, 250)))
    for at, alarms in zip((150, 200, 250), apart, strict=True):
        assert alarms[at : at + 4].any()


def test_an_image_that_ends_earlier_leaves_the_others_as_they_are() -> None:
    """Histories end when they end."""
    ended = together(ROWS[:300, 0], struck(350, 0)[:, 0], ROWS[:, 1])
    assert [len(alarms) for alarms in ended] == [300, 400, 400]
    np.testing.assert_array_equal(ended[1][:, 0], together(struck(350, 0)[:, 0])[0][:, 0])
