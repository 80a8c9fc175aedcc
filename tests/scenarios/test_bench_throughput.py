"""Recorded runs of the race of engines → its table and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from infra.bench import feed
from infra.bench.engines import job
from infra.bench.entrants import DETECTORS, ENTRANTS, FAST, Workshop, environment
from infra.bench.feed import Lot
from infra.bench.rows import Entrant, Run, table, throughput
from infra.bench.throughput import accounted
from models.features import measured
from models.records.codec import decode
from models.records.telemetry import Batch, Encoding, written
from streams.settings import load

PIPE, PLIMSOLL = Entrant("pipe", "ours"), Entrant("plimsoll", "ours")
QUIX = Entrant("quix", "documented")


def run(entrant: Entrant, turn: int, cpu_s: float, *, whole: bool = True, size: int = 100) -> Run:
    return Run(entrant, size, turn, 400_000, 2.0, cpu_s, complete=whole)


RECORDED = [
    run(PLIMSOLL, 0, 2.0, size=500), run(PLIMSOLL, 0, 2.4), run(PIPE, 0, 2.0),
    Run(QUIX, 100, 0, problem="no wheel for this Python"),
    run(PLIMSOLL, 1, 6.0), run(PIPE, 1, 4.0), run(PLIMSOLL, 2, 1.2), run(PIPE, 2, 1.0),
]  # fmt: skip  # a round a line or two


def test_a_row_is_the_median_with_its_spread_and_sizes_ascend() -> None:
    """One lucky run is no figure."""
    rows = throughput(RECORDED)

    assert [(row["samples_per_message"], row["engine"]) for row in rows] == [
        (100, "plimsoll"), (100, "pipe"), (100, "quix"), (500, "plimsoll"),
    ]  # fmt: skip  # a list
    cpu = "cpu_s_per_million_samples"
    assert [rows[0][name] for name in (cpu, f"{cpu}_min", f"{cpu}_max")] == [6.0, 3.0, 15.0]
    assert rows[0]["samples_per_s"] == 200_000
    assert (rows[0]["runs"], rows[0]["complete"]) == (3, True)


def test_ratios_are_taken_within_a_round() -> None:
    """The machine was slower in the second round for both: that is no difference of engines."""
    rows = throughput(RECORDED)

    ratio = [rows[0][name] for name in ("cpu_to_pipe", "cpu_to_pipe_min", "cpu_to_pipe_max")]
    assert ratio == [1.2, 1.2, 1.5]
    assert rows[3]["cpu_to_pipe"] is None  # no pipe ran at that size


def test_a_run_that_lost_something_shows_in_its_row() -> None:
    """Speed that forgets messages is none."""
    rows = throughput([run(PLIMSOLL, 0, 2.0), run(PLIMSOLL, 1, 2.0, whole=False)])

    assert not rows[0]["complete"]
    assert "NO" in table(rows)


def test_complete_is_what_the_broker_says_too() -> None:
    """An engine's own count is only a claim."""
    lot = Lot(10, 60, "json")
    found = {"messages": 60, "samples": 600, "outputs": 3}

    assert accounted(lot, found, 3, 60)
    assert not accounted(lot, found, 2, 60)
    assert not accounted(lot, found, 3, 59)
    assert not accounted(lot, found | {"messages": 59}, 3, 60)
    assert not accounted(lot, found | {"rejected": 1}, 3, 60)


def test_an_engine_that_could_not_be_had_has_a_row_without_figures() -> None:
    """The others still count, and nobody wonders where it went."""
    row = throughput(RECORDED)[2]

    assert (row["samples_per_s"], row["complete"]) == (None, False)
    assert row["problem"] == "no wheel for this Python"


def test_the_table_is_one_line_a_row_all_of_a_width() -> None:
    lines = table(throughput(RECORDED)).splitlines()

    assert len(lines) == 2 + 4
    assert len(set(map(len, lines))) == 1
    assert "6 (3 to 15)" in lines[2]


def test_the_rows_have_the_fields_that_readers_of_the_file_rely_on() -> None:
    """Somebody's dashboard."""
    rows = orjson.loads(orjson.dumps(throughput(RECORDED)))

    assert {
        "engine", "scorer", "job", "encoding", "samples_per_message", "samples_per_s",
        "cpu_s_per_million_samples", "complete",
    } <= rows[0].keys()  # fmt: skip  # a set


@pytest.mark.parametrize("encoding", feed.ENCODINGS)
def test_a_lot_is_batches_as_gather_writes_them(encoding: Encoding) -> None:
    """All engines read the same bytes."""
    lot = Lot(40, 60, encoding)
    made = feed.batches(lot)

    assert {len(record.samples) for record in made} == {40}
    assert decode(Batch, written(made[0], encoding)) == made[0]
    assert len({record.group for record in made}) == feed.IMAGES
    assert made[50].samples.times_ns.min() == made[0].samples.times_ns.max() + 10**9


@pytest.mark.parametrize("encoding", feed.ENCODINGS)
def test_peers_read_the_numbers_that_plimsoll_reads(
    encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their reader is leaner, not another one."""
    record = feed.batches(Lot(40, 1, encoding))[0]
    monkeypatch.setattr(job, "ENCODING", encoding)

    image, values = job.decode(written(record, encoding))

    assert image == record.lineage
    np.testing.assert_array_equal(values.T, measured(record.samples))


def test_every_entrant_has_a_command_and_its_job_settings_that_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for entrant in ENTRANTS:
        assert Workshop(Path("build/bench")).command(entrant)
    for name, detectors in DETECTORS.items():
        monkeypatch.setenv("PLIMSOLL_WORKER__DETECTORS", detectors)
        assert ("distance" in load().worker.detection.detectors) == (name == "full")
    assert "PLIMSOLL_WORKER__DETECTORS" not in environment()  # what a user set tells no engine


def test_a_size_that_is_not_listed_has_as_many_samples_as_the_next_smaller() -> None:
    assert (FAST.of(100), FAST.of(50), FAST.of(1000)) == (4_000, 400, 500)
