"""What blocks teach, and what they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from models.baseline import Baseline, Block, fold, pooled
from models.budget import (
    BLOCK_ROWS,
    ROWS,
    TICKETS,
    Lift,
    Line,
    Tail,
    accounts,
    allowed,
    tail_of,
)
from models.features import NOISE, SIZE, Array
from models.learning import meet_image
from models.lineage import LineageState


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
    assert abs(after.location[0] - 5) <= 4 * base.scale[0] * 0.05 + 1e-5


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


def test_a_successor_inherits_what_tickets_moved() -> None:
    """A release must not give back a budget that its predecessor spent."""
    state = LineageState()
    meet_image(state, "web:1", 0)
    state.images["web:1"].baseline = taught(5.0)
    state.images["web:1"].lift = Lift(0.7, 2.0)
    meet_image(state, "web:2", 1)
    assert state.images["web:2"].lift == Lift(0.7, 2.0)


def test_one_odd_sibling_moves_no_pooled_level() -> None:
    """Pooling is by median: the majority decides what is normal."""
    means: Array = np.array([[1.0], [1.1], [40.0]]) * np.ones(SIZE)
    small = np.full((3, SIZE), 0.1)
    location = pooled(means, small, means, means, 0 * means, 0 * means[0])[0]
    assert location[0] == pytest.approx(1.1)


def test_the_line_keeps_the_budget_on_an_exponential_tail() -> None:
    """Without a label: N a day means N a day."""
    rng = np.random.default_rng(3)
    tail, peaks = Tail(), 2.0 + rng.exponential(0.5, 20_000)
    over = 0
    for at, peak in enumerate(peaks):
        if at > 2_000:
            over += peak > tail.line(allowed(10.0, 60.0), Lift(), 0.0, 99.0)
        tail = tail.after(peak)
    days = 18_000 / 1440
    assert 0.3 * 10 * days < over < 3 * 10 * days


def test_noise_lifts_the_line_no_further_than_its_bound() -> None:
    """An attacker's noise must not lift it out of the way."""
    tail = Tail()
    for _ in range(5_000):
        tail = tail.after(1_000.0)
    assert tail.line(allowed(1.0, 60.0), Lift(), 6.0, 12.0) == 12.0
    assert Tail().after(1_000.0).line(allowed(1.0, 60.0), Lift(), 6.0, 12.0) < 8.0


def test_time_sinks_the_line_and_tickets_lift_it_between_bounds() -> None:
    """Else a tail that is wrong would stay wrong, or a storm of tickets would make us deaf."""
    assert Lift().after(1.0, 0.5).height < 0.0 < Lift().after(1.0, 0.0, tickets=1).height
    high = low = Lift()
    for _ in range(10_000):
        high, low = high.after(0.5, 0.0, tickets=1), low.after(0.5, 1.0)
    assert high.height == 8.0 * 0.5
    assert low.height == -12.0 * 0.5


def test_tickets_one_by_one_cost_what_time_gives_back_and_bursts_cost_more() -> None:
    """A container that spends a week's budget in an hour must not go on like that."""
    steady = burst = Lift()
    for _ in range(100):
        steady = steady.after(1.0, 1.0 / TICKETS).after(1.0, 0.0, tickets=1)
    assert steady.height == pytest.approx(0.0, abs=1e-9)
    for _ in range(10):
        burst = burst.after(1.0, 0.0, tickets=1)
    once = Lift().after(1.0, 0.0, tickets=1).height
    assert burst.height > 2.0 * 10 * once


def line() -> Line:
    return Line(1 / 1440, 60, Tail(2.0, 0.5, 100_000))


def told_of(judge: Line, account: Array, evidence: float) -> bool:
    """Whether one member's row alarms."""
    return bool(judge.judge(account, np.array([evidence]))[1][0])


def test_rows_sink_the_line_and_a_ticket_lifts_it() -> None:
    """Whoever calls too often calls less, whoever never calls listens closer."""
    judge, account = line(), accounts(1)
    heights = [judge.height()]
    for evidence in (*[1.0] * 9, 30.0):
        told_of(judge, account, evidence)
        heights.append(judge.height())
    assert heights[0] > heights[9]
    assert heights[10] > heights[0]


def test_an_open_ticket_calls_nobody_anew_and_teaches_the_tail_nothing() -> None:
    """An incident, however long, is not what is usual."""
    judge, account = line(), accounts(1)
    for _ in range(20):
        told_of(judge, account, 0.0)
    before = judge.tail
    told = [told_of(judge, account, 30.0) for _ in range(61)]
    assert told == [True] + [False] * 60
    assert judge.tail == before
    assert told_of(judge, account, 30.0)


def test_what_was_idle_while_it_was_learned_is_not_one_ticket_after_another() -> None:
    """A service that gets its first traffic is called a day or so, then watched as it is."""
    judge, account = Line(1 / 1440, 60, Tail(-16.9, 0.3, 400)), accounts(1)
    busy = np.random.default_rng(6).normal(9.8, 0.3, 7 * 1440)
    called = [told_of(judge, account, evidence) for evidence in busy.tolist()]
    days = np.array(called).reshape(7, 1440)

    assert days[0].any()
    assert not days[2:].any()
    assert told_of(judge, account, 30.0), "what happens then is told"


def test_one_member_s_endless_incident_is_not_what_the_others_are_like() -> None:
    """Only tickets far beyond what is allowed, one after another, lead a line astray."""
    judge, accounts_of_ten = Line(1 / 1440, 60, Tail(2.0, 0.3, 10_000)), accounts(10)
    quiet = np.random.default_rng(7).normal(1.0, 0.3, (2 * 1440, 10))
    quiet[60:, 3] = 30.0
    for row in quiet:
        judge.judge(accounts_of_ten, row)

    assert judge.tail.high < 3.0
    assert judge.height() < 10.0


def test_what_rises_again_in_an_open_ticket_joins_it_below_the_line() -> None:
    """The next fault in the same container needs no second call, but must be seen."""
    judge, account = line(), accounts(1)
    for evidence in (0.0, 0.0, 0.0, 0.0, 30.0, 0.0, 0.0):
        told_of(judge, account, evidence)
    near = judge.height() - 0.5
    assert told_of(judge, account, near)
    assert not told_of(judge, account, near)
    fresh = accounts(1)
    fresh[:, ROWS] = 9.0
    assert not told_of(judge, fresh, near)


def test_the_first_rows_of_a_watch_raise_no_alarm() -> None:
    """Levels are being found: history may have ended long before."""
    judge, account = line(), accounts(1)
    assert [told_of(judge, account, 30.0) for _ in range(5)] == [False] * 3 + [True, False]


def test_siblings_side_by_side_are_judged_as_if_one_after_the_other() -> None:
    """Speed is no reason to call others, or to count otherwise."""
    rng = np.random.default_rng(5)
    rows = 1.0 + rng.exponential(0.5, (400, 6))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[200:230, 2] += 8.0
    together, apart = line(), line()
    known, alone = accounts(6), [accounts(1) for _ in range(6)]
    called = 0
    for row in rows:
        _, alarms = together.judge(known, row)
        called += int(alarms.sum())
        one_by_one = [told_of(apart, alone[at], value) for at, value in enumerate(row.tolist())]
        assert alarms.tolist() == one_by_one
    assert np.array_equal(known, np.concatenate(alone))
    assert together.lift.height == pytest.approx(apart.lift.height, rel=0.01)
    assert together.tail == apart.tail
    assert called > 1


def test_the_line_stays_off_a_tail_of_which_little_is_known() -> None:
    """Twenty blocks say little about what comes once a day."""
    few, many = (Line(1 / 1440, 60, Tail(2.0, 0.5, blocks)) for blocks in (20, 100_000))
    assert few.height() > many.height() + 1.0
    assert many.height() == pytest.approx(many.tail.reached(TICKETS / 1440 * BLOCK_ROWS), abs=0.05)


def test_a_tail_of_a_history_is_about_the_one_that_was_tracked_through_it() -> None:
    """What is learned at once and what is learned live mean the same line."""
    peaks = (2.0 + np.random.default_rng(4).exponential(0.5, 4_000)).tolist()
    tracked = Tail()
    for peak in peaks:
        tracked = tracked.after(peak)
    at_once = tail_of(peaks)
    assert at_once.high == pytest.approx(tracked.high, abs=0.3)
    assert at_once.excess == pytest.approx(tracked.excess, abs=0.15)
    assert tail_of([]) == Tail()
