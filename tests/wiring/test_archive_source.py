"""The archive as a source to train on and replay, held to what the judge said live."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from models.errors import ArchiveUnusable, ConfigurationError
from models.pipeline import Core
from models.policy import Policy
from models.records.codec import encode
from models.records.order import Order, Outcome
from models.records.telemetry import Batch, Sightings, Tick
from models.records.verdict import Finding, Level, Summary, Verdict
from models.replay import Recorded
from streams import keys
from streams.archive.columns import columns, record, row
from streams.archive.decided import decided, said
from streams.archive.telemetry import ArchivedTelemetry
from streams.explaining import course_of, known_of, looked_at
from streams.replaying import Decided, compared, replayed
from streams.training import candidate
from tests.core.records.strategies import records
from tests.notebooks.record import KEPT, PARTITIONS, START_NS, WHERE, Recording
from tests.wiring.test_cli import plimsoll

ALL = (0, 2**61)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def would() -> Decided:
    return replayed(ArchivedTelemetry(WHERE), Core(), Policy(), "default", ALL)


@pytest.mark.parametrize("kind", [Verdict, Summary, Order, Outcome])
def test_a_row_is_the_record_again(kind: Any) -> None:
    """What is compared with a replay must be what was said, not nearly."""

    @FEW
    @given(records(kind))
    def back(one: Any) -> None:
        held = row(one, columns(kind))
        assert encode(record(kind, held)) == encode(_without_contents(one))

    back()


def _without_contents(one: Any) -> Any:
    """Submissions leave their content to the evidence store."""
    from dataclasses import replace

    if not isinstance(one, Outcome):
        return one
    return replace(one, submissions=tuple(replace(s, content=None) for s in one.submissions))


def differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Where two documents differ, by more than another processor's last bits: the archive was
    recorded on one that computes logarithms otherwise than some.
    """
    if isinstance(one, float) and isinstance(other, float):
        if not math.isclose(one, other, rel_tol=1e-9):
            yield f"{at}: {one!r} {other!r}"
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{at}[{place}]")
    elif one != other:
        yield f"{at}: {one!r} {other!r}"


def test_replayed_from_the_archive_verdicts_are_those_of_then(would: Decided) -> None:
    """The archive keeps all that judging asks for."""
    then = decided(WHERE, "default", ALL)

    for kind in ("verdicts", "summaries", "findings", "orders"):
        was, be = (sorted(map(encode, getattr(one, kind))) for one in (then, would))
        found = list(differences([json.loads(one) for one in was], [json.loads(one) for one in be]))
        assert not found, kind
    assert len(then.verdicts) > 10
    assert [order.action for order in then.orders] == ["isolate"]
    assert would.unjudged == 0
    assert compared(then, would).new == compared(then, would).gone == ()


def test_a_window_is_told_as_the_log_would_tell_it() -> None:
    """From one arrival up to, not with, another; each partition in its order."""
    source = ArchivedTelemetry(WHERE)
    begins, ends = START_NS + 600 * 10**9, START_NS + 700 * 10**9

    some = list(source.records(begins, ends))
    every = list(source.records(0, 0))

    within = [one for one in every if begins <= one.arrived_ns < ends]
    assert list(map(_place, some)) == list(map(_place, within))
    assert [one for one in some if isinstance(one.record, Batch)] == [
        one for one in within if isinstance(one.record, Batch)
    ]
    assert source.partitions() == PARTITIONS
    assert source.span() == (min(map(_arrived, every)), max(map(_arrived, every)) + 1)
    assert source.offsets == {
        str(place): (0, 1 + max(one.offset for one in every if one.partition == place))
        for place in range(PARTITIONS)
    }
    kinds = {type(one.record) for one in every}
    assert kinds == {Batch, Sightings, Tick}
    for place in range(PARTITIONS):
        mine = [one.offset for one in every if one.partition == place]
        assert mine == list(range(len(mine))), "none missing, none twice"
    alone = source.records(0, 0, [1])
    assert list(alone) == [one for one in every if one.partition == 1]


def _place(one: Recorded) -> tuple[int, int, type]:
    return one.partition, one.offset, type(one.record)


def _arrived(one: Recorded) -> int:
    return one.arrived_ns


def test_a_container_that_was_found_is_seen_as_the_judge_saw_it(would: Decided) -> None:
    """Weeks later Kafka has nothing of it any more."""
    verdicts = said(WHERE, Verdict, "default", ALL)
    verdicts += [one.verdict for one in said(WHERE, Finding, "default", ALL)]
    (name,) = {one.name for one in verdicts if one.level is Level.COMPROMISED}

    course = course_of(verdicts, name)
    seen = looked_at(ArchivedTelemetry(WHERE), Core(), course.turning)

    assert course.turning.level is course.worst.level is Level.COMPROMISED
    assert course.turning.at_ns < course.worst.at_ns, "cut off, it differs even more"
    assert seen is not None
    assert (seen.image, seen.siblings) == (course.turning.image, 2)
    assert any(one.feature.startswith("network_transmit") for one in seen.traits[:4])


def test_what_is_known_of_a_lineage_is_what_it_did_up_to_then() -> None:
    group = f"default/registry.example/shop/{KEPT[0]}/"
    source = ArchivedTelemetry(WHERE)

    early, late = (
        known_of(source, Core(), _group(source, KEPT[0]), START_NS + s * 10**9) for s in (60, 1_200)
    )

    assert early.lineage == late.lineage == group.split("/", 1)[1].rstrip("/")
    (young,), (old,) = early.images.values(), late.images.values()
    assert young.baseline.container_blocks < old.baseline.container_blocks
    with pytest.raises(ConfigurationError, match="no telemetry of it"):
        known_of(source, Core(), "default/nowhere/", 0)


def _group(source: ArchivedTelemetry, part: str) -> str:
    every: Iterator[Recorded] = source.records(0, 0)
    groups = (one.record.group for one in every if not isinstance(one.record, Tick))
    return next(group for group in groups if f"/{part}/" in group)


def test_the_command_trains_from_the_archive_what_the_library_does(tmp_path: Path) -> None:
    """Kafka keeps days: a model of last month's window comes from here, without a broker."""
    keys.ensure(tmp_path / "keys", START_NS)
    source = ArchivedTelemetry(WHERE)
    expected, _ = candidate(source, "default", *source.span(), now_ns=START_NS, seed=7)

    done = plimsoll(
        "train", "--archive", "--seed", "7", "--dry-run", "--json",
        PLIMSOLL_ARCHIVE_DIR=str(WHERE), PLIMSOLL_DATA_DIR=str(tmp_path),
    )  # fmt: skip  # as it is typed

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["manifest"]["sha256"] == expected.sha256


def test_an_archive_of_another_deployment_says_so() -> None:
    with pytest.raises(ArchiveUnusable, match=r"nothing of the topic staging\.telemetry"):
        ArchivedTelemetry(WHERE, "staging.telemetry")


def test_what_was_sent_twice_was_said_once(tmp_path: Path) -> None:
    """After a crash a worker sends its last verdicts again: two alarms would be one too many."""
    shutil.copytree(WHERE, tmp_path / "archive")
    (lot,) = (tmp_path / "archive").glob("day=*/lot-*")
    shutil.copytree(lot, lot.with_name("lot-000000002"))

    once = said(WHERE, Verdict, "default", ALL)

    assert said(tmp_path / "archive", Verdict, "default", ALL) == once
    assert said(WHERE, Verdict, "default", (0, once[-1].at_ns)) == once[:-1]


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    """DuckDB's own words name no lot to move away."""
    shutil.copytree(WHERE, tmp_path / "archive")
    (torn,) = (tmp_path / "archive").glob("day=*/lot-*/verdicts.parquet")
    torn.write_bytes(b"PAR1")

    with pytest.raises(ArchiveUnusable, match=r"verdicts\.parquet.*move its lot's folder"):
        said(tmp_path / "archive", Verdict, "default", ALL)


def test_the_recording_can_be_made_again() -> None:
    """Data that nobody can make anew rots with the first change of a format."""
    entries = [one for step, _ in zip(Recording().steps(), range(20), strict=False) for one in step]
    telemetry = [one for one in entries if one.role == "telemetry"]

    kept = list(ArchivedTelemetry(WHERE).records(0, telemetry[-1].arrived_ms * 10**6 + 1))

    assert sorted((one.partition, one.offset) for one in kept) == sorted(
        (one.partition, one.offset) for one in telemetry
    )
