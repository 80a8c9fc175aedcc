"""The benign days still pass: two very short ones."""

from __future__ import annotations

import orjson

from infra.bench import quiet_days


def test_a_benign_day_is_lived_and_its_alarms_are_counted() -> None:
    """All kinds of events must fit into it, whenever they fall."""
    days = quiet_days.lived(1, 2, 15.0, day_s=600.0)

    assert [day.day for day in days] == [0, 1]
    assert all(set(day.orders) <= {"redeploy", "isolate"} for day in days)
    assert orjson.dumps(days)
