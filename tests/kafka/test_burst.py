"""More than anybody planned for: it is absorbed, or refused where it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.bench.burst import Told, run
from infra.kafka import KafkaServer
from tests.fixtures_kafka import broker_or_skip

SMALL = Told(hosts=3, seconds=8.0, spool_mb=1, patience_s=120.0)
MOST_MB = 400
"""What gather and worker may hold: an unbounded queue would hold the whole burst."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with broker_or_skip(tmp_path_factory.mktemp("burst")) as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(300)  # two lines are started, one after the other
def test_twenty_times_the_usual_rate_is_absorbed(server: KafkaServer, tmp_path: Path) -> None:
    came = run(SMALL, server, tmp_path, "absorbed.")

    assert came.refused == 0
    assert came.dead > 0
    assert came.all_told, came
    assert came.judged + came.dead == came.sent


@pytest.mark.slow
@pytest.mark.timeout(300)  # it waits for a broker that answers nobody
def test_what_the_spool_refuses_is_counted_and_nothing_else_is_missing(
    server: KafkaServer, tmp_path: Path
) -> None:
    """The judge is told of each refused frame, so that nobody takes it for silence."""
    came = run(replace(SMALL, away_s=8.0), server, tmp_path, "refused.")

    assert came.refused > 0
    assert came.all_told, came
    assert came.judged + came.dead + came.refused == came.sent
    assert max(came.peak_mb["gather"], came.peak_mb["worker"]) < MOST_MB
