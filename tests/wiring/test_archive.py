"""The archive's parts without Kafka: layout, leftovers, schema, rows."""

from __future__ import annotations

import dataclasses
import enum
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.contract import KIND_HEADER
from models.errors import ArchiveUnusable
from models.evidence import Head
from models.records.codec import encode
from models.records.exhibit import Exhibit
from models.records.inventory import InventoryEntry
from models.records.order import Order, Outcome
from models.records.rejected import DeadLetter
from models.records.signed import Signed
from models.records.telemetry import Batch, Sightings, Tick
from models.records.verdict import Finding, Summary, Verdict
from streams.alerts import wrapped
from streams.archive import layout
from streams.archive.columns import called
from streams.archive.compaction import compacted
from streams.archive.layout import Archive
from streams.archive.lot import GROUP_ROWS, Lot
from streams.archive.tables import FACTS, FEATURES, ROLES, SCHEMAS, Entry, rows_of, table_of
from tests.core.governing import Bench, finding
from tests.core.records.strategies import records

DAY_MS = 1_790_000_000_000
DAY = date(2026, 9, 21)
A_DAY_MS = 86_400_000
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def entry(
    role: str = "telemetry", value: bytes | None = None, kind: str = "tick", *, offset: int = 0,
    partition: int = 0, at_ms: int = DAY_MS, key: bytes | None = b"key",
) -> Entry:  # fmt: skip  # by subject
    body = encode(Tick(at_ms * 10**6)) if value is None and role == "telemetry" else value
    headers = {KIND_HEADER: kind.encode()} if kind else {}
    return Entry(role, f"p.{role}", partition, offset, at_ms, key, body, headers)


def tables(one: Entry) -> dict[str, list[dict[str, Any]]]:
    """Rows by table, as whoever reads the files will see them."""
    return {rows.table: plain(table_of(rows.table, [rows.held])) for rows in rows_of(one)}


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Times as whole nanoseconds, which Python's own cannot hold."""
    fields = [pa.field(field.name, _numbers(field.type)) for field in table.schema]
    rows: list[dict[str, Any]] = table.cast(pa.schema(fields)).to_pylist()
    return rows


def _numbers(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(inner.name, _numbers(inner.type)) for inner in kind])
    return pa.list_(_numbers(kind.value_type)) if pa.types.is_list(kind) else kind


def told(value: Any) -> Any:
    """A field as its column should hold it: the slow and obvious way."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, tuple):
        return [told(item) for item in value]
    return value


def holds(row: dict[str, Any], record: Any, *without: str) -> None:
    """The row has every simple field of the record, each under its name."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        nested = isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0])
        if field.name in without or dataclasses.is_dataclass(value) or nested:
            continue
        name = called(type(record), field.name)
        expected = (value or None) if field.name.endswith("_ns") else told(value)
        assert row[name] == expected, field.name


# ---- rows ----------------------------------------------------------------------------------


@FEW
@given(records(Batch))
def test_a_sample_is_a_row_a_feature_a_column_and_what_was_not_measured_null(batch: Batch) -> None:
    """An average over zeros that nobody measured is wrong, and looks right."""
    rows = tables(entry(value=encode(batch), kind="batch"))["samples"]

    assert len(rows) == len(batch.samples)
    for at, row in enumerate(rows):
        member = batch.members[int(batch.samples.index[at])]
        assert row["time"] == batch.samples.times_ns[at]
        holds(row, member)
        assert (row["scope"], row["lineage"], row["role"]) == (
            batch.scope, batch.lineage, batch.role,
        )  # fmt: skip  # one place
        others = dict(row["others"] or ())
        for number, feature in enumerate(batch.samples.features):
            value = float(batch.samples.columns[number, at])
            found = row[feature] if feature in FEATURES else others.get(feature)
            assert found == (None if np.isnan(value) else value)


def test_batches_of_different_features_lie_in_one_table() -> None:
    """A newer collector measures more than this release knows: nothing of it is lost."""
    batch = _batch({"cpu_cores": [1.0, np.nan], "cpu_pressure": [np.nan, 7.0]})
    older = _batch({"processes": [3.0, 4.0]})
    held = [rows_of(entry(value=encode(b), kind="batch"))[0].held for b in (batch, older)]

    rows = plain(table_of("samples", held))

    assert [row["cpu_cores"] for row in rows] == [1.0, None, None, None]
    assert [row["processes"] for row in rows] == [None, None, 3.0, 4.0]
    assert [row["others"] for row in rows] == [None, [("cpu_pressure", 7.0)], None, None]


@FEW
@given(records(Sightings))
def test_an_observation_is_a_row_in_the_table_of_its_kind(record: Sightings) -> None:
    """Who reads connections does not want to parse boot identities."""
    found = tables(entry(value=encode(record), kind="sightings"))

    assert sum(map(len, found.values())) == len(record.observations)
    members = {member.subject: member for member in record.members}
    for kind, table in FACTS.items():
        seen = [one for one in record.observations if type(one.fact) is kind]
        for row, one in zip(found.get(table, []), seen, strict=True):
            of = members[one.subject]
            assert (row["time"], row["image"], row["started"] or 0) == (
                one.at_ns, of.image, of.started_ns,
            )  # fmt: skip  # one place
            holds(row, one.fact, "image")


@FEW
@given(st.data())
def test_every_other_record_is_a_row_with_its_fields(data: st.DataObject) -> None:
    """What an auditor asks for is a column, not a parser."""
    for role, kind, table, record in (
        ("verdicts", "verdict", "verdicts", data.draw(records(Verdict))),
        ("verdicts", "summary", "summaries", data.draw(records(Summary))),
        ("inventory", "", "inventory", data.draw(records(InventoryEntry))),
        ("outcomes", "", "outcomes", data.draw(records(Outcome))),
        ("evidence", "exhibit", "exhibits", data.draw(records(Exhibit))),
        ("rejected", "", "rejected", data.draw(records(DeadLetter))),
    ):
        (row,) = tables(entry(role, encode(record), kind))[table]
        holds(row, record)


@FEW
@given(records(Finding), records(Order))
def test_findings_and_orders_show_what_they_wrap(found: Finding, order: Order) -> None:
    (row,) = tables(entry("findings", encode(found), "finding"))["findings"]
    holds(row, found.verdict)
    assert (row["before"], row["replicas"]) == (found.before.value, found.replicas)

    signed = Signed("governor-1", b"signature", encode(order))
    (row,) = tables(entry("orders", encode(signed), "order"))["orders"]
    holds(row, order)
    assert row["signed_by"] == "governor-1"


def test_alerts_and_heads_of_a_real_incident_are_read() -> None:
    """The public form is another's (OCSF in CloudEvents): its names are where we look."""
    bench = Bench()
    bench.take(finding())
    for alert in bench.alerts:
        record = wrapped(alert)
        one = Entry("alerts", "p.alerts", 0, 0, DAY_MS, record.key, record.value,
                    dict(record.headers))  # fmt: skip  # one call
        (row,) = tables(one)["alerts"]
        assert (row["incident"], row["subject"]) == (bench.uid, alert.subject)
        assert (row["uid"], row["time"] // 10**6) == (alert.uid, alert.body["time"])
        assert orjson.loads(row["body"]) == orjson.loads(orjson.dumps(alert.body))
    head = Head("default", bench.uid, 3, "0" * 64, DAY_MS * 10**6)
    signed = Signed("governor-1", b"s", encode(head))
    (row,) = tables(entry("evidence", encode(signed), "head"))["heads"]
    holds(row, head)


def test_a_tombstone_says_that_its_container_is_gone() -> None:
    (row,) = tables(entry("inventory", None, "", key=b"c1"))["inventory"]

    assert (row["subject"], row["deleted"]) == ("c1", True)


def test_large_contents_stay_out_and_small_ones_in() -> None:
    """The archive is for questions; memory dumps lie in the evidence store."""

    def exhibit(content: bytes) -> Exhibit:
        return Exhibit("default", "inc-1", 0, "flows", DAY_MS * 10**6, "h1", "", 9, "", content)

    for content, kept in ((b"[]", b"[]"), (b"x" * 20_000, None)):
        (row,) = tables(entry("evidence", encode(exhibit(content)), "exhibit"))["exhibits"]
        assert row["content"] == kept


@settings(FEW, max_examples=100)
@given(
    st.sampled_from(ROLES),
    st.one_of(
        st.none(), st.binary(max_size=40), records(Batch).map(encode), records(Order).map(encode),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                st.sampled_from(["v", "time", "payload", "unmapped", "finding_info", "uid",
                                 "metadata", "resources", "device"]), inner, max_size=9)
        ).map(lambda body: orjson.dumps(body, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
              if _fits(body) else b"{"),
    ),
    st.sampled_from(["", "batch", "sightings", "tick", "verdict", "finding", "head", "none"]),
)  # fmt: skip  # whatever a topic may hold
def test_whatever_a_topic_holds_becomes_a_row(role: str, value: bytes | None, kind: str) -> None:
    """One bad record must neither stop the archive nor vanish from it."""
    one = Entry(role, f"p.{role}", 2, 7, DAY_MS, b"k", value, {KIND_HEADER: kind.encode()})

    found = tables(one)

    rows = [row for of in found.values() for row in of]
    assert rows
    assert {(row["log_partition"], row["log_offset"]) for row in rows} == {(2, 7)}
    for row in found.get("undecodable", []):
        assert row["value"] == value
        assert row["reason"]


def test_an_alert_of_another_shape_is_kept_as_it_came() -> None:
    """Numbers where we expect text fit no column: told with a reason, bytes and all."""
    bench = Bench()
    bench.take(finding())
    record = wrapped(bench.alerts[0])
    body = orjson.loads(record.value)
    body["finding_info"]["uid"] = 17
    one = Entry("alerts", "p.alerts", 0, 0, DAY_MS, record.key, orjson.dumps(body),
                dict(record.headers))  # fmt: skip  # one call

    (row,) = tables(one)["undecodable"]

    assert row["value"] == orjson.dumps(body)
    assert "fits no row" in row["reason"]


@pytest.mark.parametrize("table", SCHEMAS)
def test_no_column_needs_quotes_in_sql(table: str) -> None:
    """`SELECT at FROM samples` is a syntax error that nobody understands."""
    with duckdb.connect() as connection:
        connection.register(table, SCHEMAS[table].empty_table())
        for name in SCHEMAS[table].names:
            query = f"SELECT {name}, max({name}) FROM {table} WHERE {name} IS NULL GROUP BY {name}"
            assert connection.execute(query).fetchall() == []


# ---- layout --------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "archive") as opened:
        yield opened


def lot_of(archive: Archive, *entries: Entry, commit: bool = True) -> Lot:
    lot = Lot(archive, "cluster", 1 << 30)
    for one in entries:
        lot.add(one, rows_of(one))
    if commit:
        lot.commit()
    return lot


def offsets(root: Path) -> list[int]:
    paths = sorted(root.glob("day=*/lot-*/ticks.parquet"))
    return [at for path in paths for at in pq.ParquetFile(path).read()["log_offset"].to_pylist()]


def test_reading_goes_on_where_the_newest_lot_ends(archive: Archive) -> None:
    """There is no second place that could know better."""
    lot_of(archive, entry(offset=5), entry(offset=6), entry(offset=3, partition=1))
    lot_of(archive, entry(offset=7))

    assert archive.reached == {("p.telemetry", 0): 8, ("p.telemetry", 1): 4}
    archive.__exit__()
    with Archive(archive.root) as again:
        assert again.reached == {("p.telemetry", 0): 8, ("p.telemetry", 1): 4}
    newest = layout.newest(archive.root)
    assert newest is not None
    assert (newest.number, newest.spans) == (2, {("p.telemetry", 0): (7, 8)})
    assert offsets(archive.root) == [5, 6, 3, 7]


def test_what_was_not_renamed_does_not_exist_and_is_dropped(archive: Archive) -> None:
    """Its records are read again: kept, they would be there twice."""
    lot_of(archive, entry(offset=0))
    lot_of(archive, entry(offset=1), commit=False)
    assert list(archive.drafts.iterdir())
    archive.__exit__()

    with Archive(archive.root) as again:
        assert again.reached == {("p.telemetry", 0): 1}
        assert not list(again.drafts.iterdir())
    assert offsets(archive.root) == [0]


def test_a_lot_is_there_in_all_its_tables_or_in_none(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record writes to several tables: whoever joins them must not miss half of it."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    lot = lot_of(archive, entry(offset=0), entry(value=b"{", offset=1), commit=False)
    monkeypatch.setattr(os, "rename", refused)

    with pytest.raises(ArchiveUnusable, match=r"No space left.*archive_dir"):
        lot.commit()
    assert not list(archive.root.glob("day=*/lot-*"))
    assert archive.reached == {}


def test_each_day_of_the_log_has_a_folder_and_the_oldest_comes_first(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, the archive ends where the first day does."""
    entries = [entry(offset=0), entry(offset=1, at_ms=DAY_MS + A_DAY_MS)]
    lot = lot_of(archive, *entries, commit=False)
    made = []
    real = os.rename

    def rename(source: Any, target: Any, **given: Any) -> None:
        real(source, target, **given)
        made.append(str(target))

    monkeypatch.setattr(os, "rename", rename)

    lot.commit()

    assert [Path(path).parent.name for path in made] == ["day=2026-09-21", "day=2026-09-22"]
    first = layout.manifest(Path(made[0]))
    assert (first.day, first.reached) == (DAY, {("p.telemetry", 0): 1})


def test_a_clock_set_back_does_not_part_offsets_from_their_order(archive: Archive) -> None:
    """Else the earlier day's lot would end beyond what the later one still has to write."""
    lot_of(
        archive, entry(offset=0, at_ms=DAY_MS + A_DAY_MS), entry(offset=1), entry(offset=2),
        entry(offset=0, partition=1),
    )  # fmt: skip  # by partition

    spans = [layout.manifest(path).spans for _, path in sorted(layout.lots(archive.root))]
    assert spans == [{("p.telemetry", 1): (0, 1)}, {("p.telemetry", 0): (0, 3)}]


def test_a_damaged_newest_lot_is_told_with_what_to_do(archive: Archive) -> None:
    """Going on from a guess would lose or double records."""
    lot_of(archive, entry(offset=0))
    (path,) = archive.root.glob("day=*/lot-*/lot.json")
    path.write_bytes(path.read_bytes()[:-40])
    archive.__exit__()

    with (
        pytest.raises(ArchiveUnusable, match=r"lot\.json.*move the lot's folder"),
        Archive(archive.root),
    ):
        pass


def test_one_writer_an_archive(archive: Archive) -> None:
    """Two would write every record twice."""
    with (
        pytest.raises(ArchiveUnusable, match="another `plimsoll archive`"),
        Archive(archive.root),
    ):
        pass


def test_whole_days_go_when_they_are_old_but_never_the_newest(archive: Archive) -> None:
    """The newest lot says where to go on: without it, all would be read again."""
    for day in range(3):
        lot_of(archive, entry(offset=day, at_ms=DAY_MS + day * A_DAY_MS))

    # While records of such a day are being written, too.
    lot_of(archive, entry(offset=9), commit=False)
    assert archive.forget(date(2026, 9, 22)) == [DAY]
    assert archive.forget(date(2030, 1, 1)) == [date(2026, 9, 22)]
    assert [day for day, _ in layout.days(archive.root)] == [date(2026, 9, 23)]
    assert archive.reached == {("p.telemetry", 0): 3}


def test_memory_is_bounded_by_writing_as_it_comes(archive: Archive) -> None:
    """A lot may last hours: what waits in memory must not."""
    batch = _batch({"cpu_cores": list(np.arange(5_000.0))})
    one = entry(value=encode(batch), kind="batch")
    lot = Lot(archive, "cluster", 1 << 30)
    for _ in range(2 * GROUP_ROWS // 5_000 + 1):
        lot.add(one, rows_of(one))

    (path,) = archive.drafts.glob("*/samples.parquet")
    assert path.stat().st_size > 0
    lot.commit()
    (path,) = archive.root.glob("day=*/lot-*/samples.parquet")
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(at).num_rows for at in range(groups.num_row_groups)] == [
        GROUP_ROWS, GROUP_ROWS, 5_000,
    ]  # fmt: skip  # one list


def _batch(columns: dict[str, Any]) -> Batch:
    from models.records.samples import Samples
    from models.records.telemetry import Member

    rows = len(next(iter(columns.values())))
    table = Samples(
        tuple(columns), ("c1",), np.zeros(rows, np.int64),
        DAY_MS * 10**6 + np.arange(rows, dtype=np.int64), np.array(list(columns.values())),
    )  # fmt: skip  # as the fields lie
    return Batch("default", "shop/cart", "web", (Member("c1", "h1", "shop/cart@1"),), table, 1.0)


def _fits(body: Any) -> bool:
    try:
        orjson.dumps(body)
    except TypeError:
        return False
    return True


# ---- past days -----------------------------------------------------------------------------


def many_lots(archive: Archive, lots: int = 10) -> list[int]:
    """A day of so many lots, each with ticks and something undecodable, and a day after it."""
    for number in range(lots):
        torn = entry(value=b"{", offset=number, partition=1)
        lot_of(archive, entry(offset=number), torn)
    lot_of(archive, entry(offset=lots, at_ms=DAY_MS + A_DAY_MS))
    return offsets(archive.root)


def test_a_past_day_becomes_one_lot_with_the_same_rows(archive: Archive) -> None:
    """A question about months should not open a hundred thousand files."""
    held = many_lots(archive)

    assert list(compacted(archive, lambda: False)) == [DAY]

    assert offsets(archive.root) == held
    found = [(number, layout.manifest(path)) for number, path in layout.lots(archive.root)]
    assert [number for number, _ in sorted(found)] == [10, 11]
    (merged,) = (one for number, one in found if number == 10)
    assert merged.spans == {("p.telemetry", 0): (0, 10), ("p.telemetry", 1): (0, 10)}
    assert merged.rows == {"ticks": 10, "undecodable": 10}
    assert not list(archive.drafts.iterdir())
    assert list(compacted(archive, lambda: False)) == []
    archive.__exit__()
    with Archive(archive.root) as again:
        assert again.reached == {("p.telemetry", 0): 11, ("p.telemetry", 1): 10}


@pytest.mark.parametrize("step", range(1, 4))
def test_killed_while_it_compacts_a_day_nothing_is_lost_or_doubled(
    archive: Archive, step: int
) -> None:
    """Before, between and after the two renames."""
    held = many_lots(archive)
    archive.__exit__()
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from streams.archive.compaction import compacted\n"
        "from streams.archive.layout import Archive\n"
        "real, renames = os.rename, 0\n"
        "def rename(a, b, **given):\n"
        "    global renames\n    renames += 1\n"
        f"    if renames == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(a, b, **given)\n"
        f"    if renames == 2 and {step} == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.rename = rename\n"
        "with Archive(Path(sys.argv[1])) as archive: list(compacted(archive, lambda: False))\n"
    )
    done = subprocess.run((sys.executable, "-c", program, str(archive.root)), check=False)
    assert done.returncode == -signal.SIGKILL

    with Archive(archive.root) as again:
        assert offsets(again.root) == held
        assert not list(again.drafts.iterdir())
        list(compacted(again, lambda: False))
        assert offsets(again.root) == held
        assert again.reached == {("p.telemetry", 0): 11, ("p.telemetry", 1): 10}


def test_a_stop_leaves_the_day_as_it_was(archive: Archive) -> None:
    """SIGTERM must not wait for a large day."""
    held = many_lots(archive)

    asked = iter([False, True, True])
    assert list(compacted(archive, lambda: next(asked))) == []

    assert offsets(archive.root) == held
    assert len(list(layout.lots(archive.root))) == 11


def test_files_of_another_release_are_left_alone(archive: Archive) -> None:
    """What this one does not know, it would drop."""
    many_lots(archive)
    path = min(archive.root.glob("day=*/lot-*/ticks.parquet"))
    table = pq.ParquetFile(path).read()
    pq.write_table(table.append_column("new", [["x"] * len(table)]), path)

    assert list(compacted(archive, lambda: False)) == []
