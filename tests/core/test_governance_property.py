"""Whatever comes in whatever order: no guard is exceeded, nothing is ordered twice."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import guards
from models.evidence import Head, verify
from models.governor import GovernorState
from models.guards import Case, Refusal
from models.policy import Policy
from models.records.control import Verb
from models.records.exhibit import Exhibit
from models.records.order import Status
from models.records.verdict import Level
from tests.core.governing import tick
from tests.core.sequences import KINDS, POLICIES, Step, World, drawn, lived, shortest

STEPS = st.lists(
    st.sampled_from(list(KINDS)).flatmap(
        lambda what: st.tuples(st.just(what), *map(st.sampled_from, KINDS[what]))
    ),
    min_size=1,
    max_size=40,
)

COMPROMISED, CORRUPTED = Level.COMPROMISED, Level.CORRUPTED
# Each of these has broken a guarantee once.
TWO_WAITING: list[Step] = [("find", 1, CORRUPTED), ("find", 2, CORRUPTED), ("crash", 0, None)]
LATE_FAILURE: list[Step] = [("find", 1, COMPROMISED), ("wait", 50, None)]
DONE_AFTER_ALL: list[Step] = [
    ("find", 1, COMPROMISED), ("late", 6, Level.WATCH), ("answer", 0, Status.FAILED),
    ("wait", 1, None), ("answer", 1, Status.DONE), ("say", 0, Verb.APPROVE),
]  # fmt: skip  # what was asked for a second time, and the first was done by then
LONG_AGO: list[Step] = [("find", 1, COMPROMISED), ("wait", 1, None), ("wait", 3700, None)]


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(POLICIES), STEPS)
@example(POLICIES[0], [*TWO_WAITING, ("wait", 50, None), ("crash", 0, None)])
@example(POLICIES[0], [*LATE_FAILURE, ("answer", 0, Status.FAILED)])
@example(POLICIES[0], DONE_AFTER_ALL)
@example(
    POLICIES[0], [*LONG_AGO, ("wait", 3700, None), ("again", 3, None), ("find", 1, COMPROMISED)]
)
def test_no_guard_is_exceeded_and_nothing_is_ordered_twice(
    policy: Policy, steps: list[Step]
) -> None:
    """The governor is the one part that can take production down: it has to hold always."""
    lived(policy, steps)


GUARDS = ("share", "floor", "rate", "switch", "hold", "protected", "released", "late", "mode")


@pytest.mark.parametrize("guard", GUARDS)
def test_without_a_guard_some_sequence_exceeds_it(
    guard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that could not find a missing guard would prove nothing."""
    every = guards._refusals

    def without(state: GovernorState, policy: Policy, case: Case) -> Iterator[Refusal]:
        return (one for one in every(state, policy, case) if one.guard != guard)

    monkeypatch.setattr(guards, "_refusals", without)
    for number in range(4000):
        policy, steps = POLICIES[number % len(POLICIES)], drawn(Random(number))
        try:
            lived(policy, steps)
        except AssertionError:
            assert len(shortest(policy, steps)) <= 12
            return
    pytest.fail(f"4,000 sequences without the guard {guard!r}, and none exceeds it")


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_chain_holds_whatever_it_was_made_of(steps: list[Step]) -> None:
    """Evidence that does not verify is worse than none."""
    world = World()
    exhibits: list[Exhibit] = []
    heads: list[Head] = []
    for what, number, choice in steps:
        world.now_s += 1
        record = world.record(what, number, choice)
        world.take(record or tick(world.now_s))
        exhibits += world.outputs[-1].exhibits
        heads += world.outputs[-1].heads
    for uid in {one.incident for one in exhibits}:
        chain = [one for one in exhibits if one.incident == uid]
        assert verify(chain, [head for head in heads if head.incident == uid]).holds
        assert not verify(chain[1:], [head for head in heads if head.incident == uid]).holds
