"""All twelve stories on the simulated fleet, through the core alone: no Kafka, no clock."""

from __future__ import annotations

import pytest

from tests.scenarios.rehearsal import Ending, Rehearsal


@pytest.fixture(scope="module")
def endings() -> list[Ending]:
    return Rehearsal(seed=1).play()


def test_every_attack_and_fault_reaches_its_level(endings: list[Ending]) -> None:
    """Half an hour of ordinary life must be enough to know one from the other."""
    told = [one for one in endings if not one.twin]
    assert len(told) == 6
    assert [one for one in told if not one.right] == []
    assert all(one.why for one in told), "a person must be told why"


def test_no_benign_twin_is_condemned(endings: list[Ending]) -> None:
    """They differ from the attacks in nothing but what they mean."""
    twins = [one for one in endings if one.twin]
    assert len(twins) == 6
    assert [one for one in twins if not one.right] == []
