"""At most N false alarms a day: of the fleet, a lineage, an image or a container."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.allowance import daily, of_member
from models.budget import Scope
from models.detection import Detection
from models.lineage import Image, LineageState
from models.pipeline import Core
from models.records.telemetry import Member
from streams.settings import load
from tests.core.fleet import Lineage, Watch


def state_of(**members: int) -> LineageState:
    """A lineage whose images have so many containers."""
    state = LineageState()
    for name, count in members.items():
        state.images[name] = Image(name, 1)
        state.members.met([Member(f"{name}-{at}", "h", name) for at in range(count)], 1)
    return state


@pytest.mark.parametrize(
    ("scope", "old", "new"),
    [(Scope.FLEET, 0.3, 0.1), (Scope.LINEAGE, 3.0, 1.0), (Scope.IMAGE, 4.0, 4.0),
     (Scope.CONTAINER, 12.0, 4.0)],
)  # fmt: skip  # a table
def test_a_budget_is_split_as_it_was_said(scope: Scope, old: float, new: float) -> None:
    """During a deploy two versions share what one had; nobody gets more for being deployed."""
    detection = Detection(budget_alarms_per_day=4.0, budget_scope=scope, budget_lineages=10)
    state = state_of(old=3, new=1)

    assert daily(state, state.images["old"], detection) == pytest.approx(old)
    assert daily(state, state.images["new"], detection) == pytest.approx(new)
    assert of_member(state, state.images["old"], detection) == pytest.approx(old / 3)


@pytest.mark.parametrize("scope", list(Scope))
def test_an_image_that_nobody_runs_still_has_a_line(scope: Scope) -> None:
    """Its containers may come back within the hour."""
    state = state_of(gone=0, now=2)

    assert daily(state, state.images["gone"], Detection(budget_scope=scope)) > 0.0
    assert of_member(LineageState(), Image("x", 1), Detection(budget_scope=scope)) > 0.0


def test_a_fleet_of_many_has_higher_lines() -> None:
    """The same N for more lineages: each may be wrong less often."""

    def line(detection: Detection) -> float:
        lineage = Lineage("web", 4, 5.0)
        watch = Watch(Core(detection=replace(detection, line_least=1.0)))
        watch.run([lineage], 1_500.0)
        return watch.states[lineage.group].images[lineage.image].line

    alone = line(Detection(budget_alarms_per_day=10.0, budget_scope=Scope.LINEAGE))
    many = line(
        Detection(budget_alarms_per_day=10.0, budget_scope=Scope.FLEET, budget_lineages=1_000)
    )

    assert many > alone + 1.0


def test_the_default_is_ten_a_day_for_a_fleet_of_ten() -> None:
    """The setting says fleet, and the judge takes it so."""
    detection = load().worker.detection
    state = state_of(web=4)

    assert detection.budget_scope is Scope.FLEET
    assert daily(state, state.images["web"], detection) == pytest.approx(1.0)
