"""`make chaos` in small: the whole line, the worst faults, and a measure that can fail."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fixtures_kafka import broker_or_skip
from tests.kafka.chaos.faults import plan
from tests.kafka.chaos.run import run


@pytest.mark.timeout(600)  # eight processes start, three of them twice
def test_the_whole_line_loses_nothing_while_its_parts_are_killed(tmp_path: Path) -> None:
    """A worker is killed, the responder in the middle of an isolation, and the broker."""
    broker = broker_or_skip(tmp_path / "broker")
    try:
        told = run(
            broker, tmp_path / "line", plan(3, seed=1), 6_000, lambda _what, _share: None,
            time.monotonic() + 300,
        ).told()  # fmt: skip  # one call
    finally:
        broker.stop()

    assert told["hangs"] == []
    assert {part: found["lost"] for part, found in told["parts"].items()} == dict.fromkeys(
        ("gather", "worker", "govern", "respond", "archive"), 0
    )
    assert told["state_equal"], told["parts"]
    assert told["alerts_equal"], told["parts"]
    assert told["parts"]["govern"]["orders"] == 5, "one before the faults, one each, one to die by"
    assert told["parts"]["worker"]["outputs"] > 0
