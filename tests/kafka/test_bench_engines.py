"""The engines that need no peer installed run their job to the end, each message accounted for."""

from __future__ import annotations

import pytest

from infra.bench import feed
from infra.bench.entrants import Workshop
from infra.bench.feed import Lot
from infra.bench.rows import Entrant
from infra.bench.throughput import Track
from tests.fixtures_kafka import TestKafka

LOT = Lot(60, 120, "binary")


@pytest.fixture(scope="module")
def track(kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory) -> Track:
    directory = tmp_path_factory.mktemp("bench")
    made = Track(kafka.bootstrap, directory, Workshop(directory))
    made.lay()
    feed.fill(kafka.bootstrap, LOT, directory)
    return made


@pytest.mark.parametrize(
    "entrant",
    [
        Entrant("pipe", "ours", encoding="binary"),
        *(Entrant("plimsoll", "ours", job, "binary") for job in ("reduced", "full")),
    ],
    ids=["pipe", "reduced", "full"],
)
def test_a_run_is_complete_and_timed(track: Track, entrant: Entrant) -> None:
    """The clock sits inside of a real worker: it must start, and stop, and count all."""
    run = track.run(entrant, LOT, 0)

    assert not run.problem, run.problem
    assert run.complete
    assert run.samples == LOT.samples * LOT.messages
    assert 0 < run.cpu_s < 60
