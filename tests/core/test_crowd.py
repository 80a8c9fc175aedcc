"""Lineages side by side are judged as each would be by itself."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.crowd import Crowd
from models.detectors.residual import Residual
from models.features import SIZE, Array
from models.members import ARRAYS
from models.pipeline import Arrival, Core, judge
from models.records.telemetry import Batch
from models.state import pack
from tests.core.fleet import Lineage, Watch

FLEET = (("web", 5.0), ("worker", 5.0), ("idle", 10.0), ("database", 2.0), ("web", 5.0))
"""Kind and period."""


def fleet(seed: int) -> list[Lineage]:
    """Of different sizes, periods and ages, so that nothing is of equal length by chance."""
    return [
        Lineage(kind, seed + at, step_s, name=f"fleet-{at}/{kind}")
        for at, (kind, step_s) in enumerate(FLEET)
    ]


def arrivals(seed: int, until_s: float = 300.0) -> list[Arrival]:
    lineages, found = fleet(seed), []
    while lineages[0].now_s < until_s:
        for lineage in lineages:
            found += lineage.next()
    return found


LOG = arrivals(3)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 200))
def test_a_lineage_is_judged_as_if_it_were_alone(at_once: int) -> None:
    """Nobody's verdict may depend on who else is in the fleet."""
    together = Watch(Core())
    for start in range(0, len(LOG), at_once):
        together.take(judge(together.states, LOG[start : start + at_once], Core()))

    for group in together.states:
        alone = Watch(Core())
        for arrival in (one for one in LOG if one.group == group):
            alone.take(judge(alone.states, [arrival], Core()))
        assert pack(together.states[group]) == pack(alone.states[group])


def test_what_is_kept_holds_nothing_of_its_neighbours() -> None:
    """A slice would keep the arrays of all who were judged with it, for as long as it lives."""
    watch = Watch(Core())
    watch.take(judge(watch.states, LOG, Core()))

    assert len(watch.states) > 3
    for state in watch.states.values():
        kept = [getattr(state.members, name) for name in ARRAYS]
        rows: list[Array] = []
        for image in state.images.values():
            kept += [image.sums, image.lasting, *arrays_in(image.together)]
            rows += arrays_in(image.baseline)
            rows += [one for block in image.pending for one in arrays_in(block)]
        assert all(whole_of(one).nbytes == one.nbytes for one in kept)
        assert all(whole_of(one).nbytes <= 7 * SIZE * 8 for one in rows), "one baseline's"


def arrays_in(value: object) -> list[Array]:
    """What it holds and has made."""
    names = [field.name for field in fields(value)] if is_dataclass(value) else []
    own = {name: getattr(value, name) for name in names} | getattr(value, "__dict__", {})
    found = [one for one in own.values() if isinstance(one, np.ndarray)]
    return found + [one.whitening for one in own.values() if isinstance(one, Residual)]


def whole_of(array: Array) -> Array:
    """What stays in memory for it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_who_comes_goes_or_changes_images_is_noticed() -> None:
    """A crowd that went on with rows that moved would judge one container by another's past."""
    watch = Watch(Core())
    watch.take(judge(watch.states, LOG[:20], Core()))
    states = [state.copy() for state in watch.states.values()]
    crowd = Crowd.of(states)
    assert crowd.still(states)
    assert crowd.still(states[:2])
    assert not crowd.still(states[1:])

    record = next(one.record for one in LOG if isinstance(one.record, Batch))
    state = next(one for one in states if one.lineage == record.lineage)
    state.members.keep(np.arange(len(state.members)) > 0)
    assert not crowd.still(states)
    crowd = Crowd.of(states)
    state.members.met(record.members[:1], record.at_ns)
    assert not crowd.still(states)


def test_the_crowd_and_its_states_are_one() -> None:
    """What is done to one container by its state is done in the crowd, and the other way."""
    watch = Watch(Core())
    watch.take(judge(watch.states, LOG[:20], Core()))
    states = [state.copy() for state in watch.states.values()]
    crowd = Crowd.of(states)

    states[1].members.peak[0] = 7.0
    crowd.peak[crowd.start[2]] = 8.0

    assert crowd.peak[crowd.start[1]] == 7.0
    assert states[2].members.peak[0] == 8.0
    assert crowd.first(2).peak[crowd.start[1]] == 7.0
