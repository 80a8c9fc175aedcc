"""Which tables there are, and what each record of the log puts into them.

Every row begins with its place in the log: when the log took it in, partition and offset.
What cannot be decoded goes, as it came, into a table of its own with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from models.contract import KIND_HEADER, Topics
from models.errors import MalformedRecord
from models.evidence import Head
from models.features import MEASURED
from models.records.codec import decode
from models.records.exhibit import Exhibit
from models.records.facts import (
    BootIdentity,
    Connection,
    Coverage,
    Exec,
    FileChange,
    Interface,
    Lifecycle,
    Listen,
    Observation,
    Program,
)
from models.records.inventory import InventoryEntry
from models.records.lesson import LESSON, Lesson
from models.records.order import Order, Outcome
from models.records.rejected import DeadLetter
from models.records.signed import Signed
from models.records.telemetry import KINDS, Batch, Member, Sightings, Tick
from models.records.verdict import VERDICT_KINDS, Finding, Summary, Verdict
from streams.alerts import unwrapped
from streams.archive.columns import TIME, columns, row, time_of

FEATURES: Final = tuple(feature.name for feature in MEASURED)
MOST_CONTENT_BYTES: Final = 16 * 1024
"""Of an exhibit's content; more than this stays in the log and the evidence store alone."""

Fields = list[pa.Field]
Log = tuple[int, int, int]
"""When the log took a record in (µs), partition and offset."""
Sampled = tuple[Log, Batch]
Sighted = tuple[Log, Sightings, Member, Observation]

LOG: Final[Fields] = [
    pa.field("log_time", pa.timestamp("us")),
    pa.field("log_partition", pa.int32()),
    pa.field("log_offset", pa.int64()),
]
_WHO: Final[Fields] = [
    pa.field(name, pa.string())
    for name in ("scope", "lineage", "role", "image", "subject", "host", "name")
]
_TIME: Final = pa.field("time", TIME)
_STARTED: Final = pa.field("started", TIME)


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the log, its topic named by role (``telemetry``)."""

    role: str
    topic: str
    partition: int
    offset: int
    arrived_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]

    @property
    def place(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"

    @property
    def log(self) -> Log:
        return self.arrived_ms * 1000, self.partition, self.offset


@dataclass(frozen=True, slots=True)
class Rows:
    """``count`` rows for one table. What is many (samples, observations) is ``held`` as
    records and becomes columns later, many at once; the rest is a record batch already.
    """

    table: str
    count: int
    held: Any


def _fields(kind: Any, without: Iterable[str] = ()) -> Fields:
    return [pa.field(c.name, c.kind) for c in columns(kind, frozenset(without))]


FACTS: Final[dict[type, str]] = {
    Connection: "connections", Interface: "interfaces", Listen: "listens", Program: "programs",
    FileChange: "file_changes", BootIdentity: "boots", Exec: "execs", Lifecycle: "lifecycles",
    Coverage: "coverage",
}  # fmt: skip  # a table
"""The table of each kind of observation."""

_OWN_IMAGE: Final = frozenset({"image"})  # a boot identity's is its member's, too

SCHEMAS: Final[dict[str, pa.Schema]] = {
    name: pa.schema([*LOG, *fields])
    for name, fields in {
        "samples": [
            _TIME, *_WHO,
            pa.field("interval_s", pa.float64()), _STARTED,
            pa.field("memory_limit_bytes", pa.int64()), pa.field("cpu_limit_cores", pa.float64()),
            *(pa.field(feature, pa.float64()) for feature in FEATURES),
            pa.field("others", pa.map_(pa.string(), pa.float64())),
        ],
        **{table: [_TIME, *_WHO, _STARTED, *_fields(kind, _OWN_IMAGE)]
           for kind, table in FACTS.items()},
        "lessons": [
            *_fields(Lesson, {"usual", "spans", "facts"}),
            pa.field("facts", pa.list_(pa.string())), pa.field("features", pa.list_(pa.string())),
            pa.field("signed_by", pa.string()), pa.field("signed", pa.binary()),
        ],
        "ticks": [pa.field("topic", pa.string()), *_fields(Tick)],
        "inventory": [*_fields(InventoryEntry), pa.field("deleted", pa.bool_())],
        "verdicts": _fields(Verdict),
        "summaries": _fields(Summary),
        "findings": [*_fields(Verdict), *_fields(Finding, {"verdict"})],
        "orders": [*_fields(Order), pa.field("signed_by", pa.string())],
        "outcomes": _fields(Outcome),
        "alerts": [
            _TIME,
            *(
                pa.field(name, pa.string())
                for name in ("uid", "incident", "change", "scope", "level", "stage", "subject",
                             "name", "host", "message", "body")
            ),
        ],
        "exhibits": _fields(Exhibit),
        "heads": [*_fields(Head), pa.field("signed_by", pa.string())],
        "rejected": _fields(DeadLetter),
        "undecodable": [
            pa.field("topic", pa.string()), pa.field("kind", pa.string()),
            pa.field("fault", pa.string()), pa.field("place", pa.string()),
            pa.field("reason", pa.string()), pa.field("log_key", pa.binary()),
            pa.field("value", pa.binary()), pa.field("headers", pa.map_(pa.string(), pa.binary())),
        ],
        "gaps": [
            pa.field("topic", pa.string()), pa.field("first_missing", pa.int64()),
            pa.field("next_found", pa.int64()), pa.field("because", pa.string()),
        ],
    }.items()
}  # fmt: skip  # by table
"""Every table by its name."""


def rows_of(entry: Entry) -> list[Rows]:
    """What a record puts into which tables; at least one row, whatever the record is."""
    try:
        return list(_READERS[entry.role](entry))
    except MalformedRecord as problem:
        return [_undecodable(entry, problem)]
    except (pa.ArrowException, ValueError, TypeError, LookupError, OverflowError) as problem:
        # A record that decodes and still fits no column: ours to mend, not to lose.
        return [_undecodable(entry, MalformedRecord("mistyped", f"fits no row: {problem!r}"))]


def gap(topic: str, partition: int, first: int, found: Entry, because: str) -> Rows:
    """Offsets that the log did not hand over, told beside the record that came instead."""
    values = {"topic": topic, "first_missing": first, "next_found": found.offset}
    return _row("gaps", (found.arrived_ms * 1000, partition, first), values | {"because": because})


# ---- one reader for each topic -------------------------------------------------------------


def _telemetry(entry: Entry) -> Iterator[Rows]:
    kind = _kind(entry, {**KINDS, LESSON: Lesson})
    if kind is Lesson:
        yield _lesson(entry)
    elif kind is Batch:
        batch = decode(Batch, entry.value)
        yield Rows("samples", len(batch.samples), (entry.log, batch))
    elif kind is Sightings:
        yield from _sightings(entry, decode(Sightings, entry.value))
    else:
        yield _ticks(entry)


def _sightings(entry: Entry, record: Sightings) -> Iterator[Rows]:
    members = {member.subject: member for member in record.members}
    found: dict[str, list[Sighted]] = {}
    for one in record.observations:
        seen = (entry.log, record, members[one.subject], one)
        found.setdefault(FACTS[type(one.fact)], []).append(seen)
    for table, rows in found.items():
        yield Rows(table, len(rows), rows)


def _lesson(entry: Entry) -> Rows:
    """As it was signed, too: whoever replays it checks it as the judge did."""
    signed = decode(Signed, entry.value)
    lesson = decode(Lesson, signed.payload)
    values = _values(lesson, frozenset({"usual", "spans", "facts"})) | {
        "facts": list(lesson.facts),
        "features": [*(u.feature for u in lesson.usual), *(s.feature for s in lesson.spans)],
        "signed_by": signed.key, "signed": entry.value,
    }  # fmt: skip  # by subject
    return _row("lessons", entry.log, values)


def _ticks(entry: Entry) -> Rows:
    tick = decode(Tick, entry.value)
    return _row("ticks", entry.log, {"topic": entry.topic, "time": tick.at_ns})


def _inventory(entry: Entry) -> Iterator[Rows]:
    if entry.value is None:
        subject = (entry.key or b"").decode(errors="replace")
        yield _row("inventory", entry.log, {"subject": subject, "deleted": True})
        return
    values = _values(decode(InventoryEntry, entry.value))
    yield _row("inventory", entry.log, values | {"deleted": False})


def _verdicts(entry: Entry) -> Iterator[Rows]:
    kind = _kind(entry, VERDICT_KINDS)
    table = "verdicts" if kind is Verdict else "summaries"
    yield _row(table, entry.log, _values(decode(kind, entry.value)))


def _findings(entry: Entry) -> Iterator[Rows]:
    if _kind(entry, {"finding": Finding, "tick": Tick}) is Tick:
        yield _ticks(entry)
        return
    finding = decode(Finding, entry.value)
    values = _values(finding.verdict) | _values(finding, frozenset({"verdict"}))
    yield _row("findings", entry.log, values)


def _orders(entry: Entry) -> Iterator[Rows]:
    signed = decode(Signed, entry.value)
    values = _values(decode(Order, signed.payload)) | {"signed_by": signed.key}
    yield _row("orders", entry.log, values)


def _outcomes(entry: Entry) -> Iterator[Rows]:
    yield _row("outcomes", entry.log, _values(decode(Outcome, entry.value)))


def _alerts(entry: Entry) -> Iterator[Rows]:
    body = unwrapped(entry.key, entry.value, entry.headers.items())
    info, state = body["finding_info"], body["unmapped"]
    resource = body["resources"][0]
    values = {
        "time": int(body["time"]) * 10**6, "uid": body["metadata"]["uid"],
        "incident": info["uid"], "change": body["activity_name"], "scope": state["scope"],
        "level": state["level"], "stage": state["stage"], "subject": resource["uid"],
        "name": resource["name"], "host": body["device"]["uid"], "message": body["message"],
        "body": orjson.dumps(body).decode(),
    }  # fmt: skip  # by subject
    yield _row("alerts", entry.log, values)


def _evidence(entry: Entry) -> Iterator[Rows]:
    if _kind(entry, {"exhibit": Exhibit, "head": Head}) is Head:
        signed = decode(Signed, entry.value)
        values = _values(decode(Head, signed.payload)) | {"signed_by": signed.key}
        yield _row("heads", entry.log, values)
        return
    values = _values(decode(Exhibit, entry.value))
    if len(values["content"] or b"") > MOST_CONTENT_BYTES:
        values["content"] = None
    yield _row("exhibits", entry.log, values)


def _rejected(entry: Entry) -> Iterator[Rows]:
    yield _row("rejected", entry.log, _values(decode(DeadLetter, entry.value)))


_READERS: Final[dict[str, Callable[[Entry], Iterator[Rows]]]] = {
    "telemetry": _telemetry, "inventory": _inventory, "verdicts": _verdicts,
    "findings": _findings, "orders": _orders, "outcomes": _outcomes, "alerts": _alerts,
    "evidence": _evidence, "rejected": _rejected,
}  # fmt: skip  # a table
ROLES: Final = tuple(_READERS)
"""The topics that are archived. Samples are not: telemetry holds them, with image and role."""


def archived(topics: Topics) -> dict[str, str]:
    """The role of each topic that is archived, by the topic's name."""
    return {f"{topics.prefix}{role}": role for role in ROLES}


# ---- rows by the column ----------------------------------------------------------------------


def samples(taken: Sequence[Sampled]) -> pa.RecordBatch:
    """One row a sample, one column a feature; what was not measured is null.

    Features that this release does not know by name stand in the map ``others``.
    """
    batches = [batch for _, batch in taken]
    counts = [len(batch.samples) for batch in batches]
    members = [member for batch in batches for member in batch.members]
    # Where each batch's members begin, so that one index serves all of them.
    begins = np.cumsum([0, *(len(batch.members) for batch in batches)])[:-1]
    index = np.concatenate([b.samples.index + at for b, at in zip(batches, begins, strict=True)])
    record = np.repeat(np.arange(len(batches)), counts)

    def by_record(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(list(values), kind).take(pa.array(record))

    def by_member(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(list(values), kind).take(pa.array(index))

    text, number, whole = pa.string(), pa.float64(), pa.int64()
    return pa.RecordBatch.from_arrays(
        [
            *(
                by_record(values, field.type)
                for values, field in zip(zip(*(log for log, _ in taken), strict=True), LOG,
                                         strict=True)
            ),
            pa.array(np.concatenate([batch.samples.times_ns for batch in batches])).cast(TIME),
            *(by_record((getattr(batch, name) for batch in batches), text)
              for name in ("scope", "lineage", "role")),
            *(by_member((getattr(member, name) for member in members), text)
              for name in ("image", "subject", "host", "name")),
            by_record((batch.interval_s for batch in batches), number),
            by_member((time_of(member.started_ns) for member in members), TIME),
            by_member((member.memory_limit_bytes for member in members), whole),
            by_member((member.cpu_limit_cores for member in members), number),
            *(_measured(feature, batches) for feature in FEATURES),
            _others(batches),
        ],
        schema=SCHEMAS["samples"],
    )  # fmt: skip  # as the schema has them


def _measured(feature: str, batches: Sequence[Batch]) -> pa.Array:
    values = np.concatenate([batch.samples.column(feature) for batch in batches])
    return pa.array(values, pa.float64(), from_pandas=True)  # NaN is null


def _others(batches: Sequence[Batch]) -> pa.Array:
    """The features without a column of their own, as a map in each row that has any."""
    rows: list[list[tuple[str, float]] | None] = []
    for batch in batches:
        table = batch.samples
        names = [name for name in table.features if name not in FEATURES]
        for at in range(len(table)) if names else ():
            values = ((name, float(table.column(name)[at])) for name in names)
            rows.append([pair for pair in values if not np.isnan(pair[1])] or None)
        rows += [None] * (0 if names else len(table))
    return pa.array(rows, SCHEMAS["samples"].field("others").type)


def facts(kind: type, taken: Sequence[Sighted]) -> pa.RecordBatch:
    """One row an observation of this kind: who, and what the fact says."""
    schema = SCHEMAS[FACTS[kind]]
    values = [
        *zip(*(log for log, _, _, _ in taken), strict=True),
        [one.at_ns for _, _, _, one in taken],
        *([getattr(record, name) for _, record, _, _ in taken]
          for name in ("scope", "lineage", "role")),
        *([getattr(member, name) for _, _, member, _ in taken]
          for name in ("image", "subject", "host", "name")),
        [time_of(member.started_ns) for _, _, member, _ in taken],
        *([column.of(one.fact) for _, _, _, one in taken]
          for column in columns(kind, _OWN_IMAGE)),
    ]  # fmt: skip  # as the schema has them
    arrays = [pa.array(list(v), field.type) for v, field in zip(values, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def table_of(name: str, held: Sequence[Any]) -> pa.Table:
    """What records put into one table, put together."""
    if name == "samples":
        held = [samples(held)]
    elif name in _FACT_OF:
        held = [facts(_FACT_OF[name], [one for some in held for one in some])]
    return pa.Table.from_batches(held, SCHEMAS[name])


_FACT_OF: Final = {table: kind for kind, table in FACTS.items()}


# ---- rows one by one -------------------------------------------------------------------------


def _undecodable(entry: Entry, problem: MalformedRecord) -> Rows:
    kind = entry.headers.get(KIND_HEADER)
    values = {
        "topic": entry.topic, "kind": None if kind is None else kind.decode(errors="replace"),
        "fault": problem.fault, "place": problem.place, "reason": problem.problem,
        "log_key": entry.key, "value": entry.value, "headers": list(entry.headers.items()),
    }  # fmt: skip  # by subject
    return _row("undecodable", entry.log, values)


def _kind(entry: Entry, kinds: Mapping[str, Any]) -> Any:
    name = entry.headers.get(KIND_HEADER, b"").decode(errors="replace")
    if name not in kinds:
        known = ", ".join(sorted(kinds))
        raise MalformedRecord("unknown-schema", f"{name!r} is none of {known}", KIND_HEADER)
    return kinds[name]


def _values(record: Any, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    kind: Any = type(record)
    return row(record, columns(kind, without))


def _row(table: str, log: Log, values: Mapping[str, Any]) -> Rows:
    place = dict(zip((field.name for field in LOG), log, strict=True))
    return Rows(table, 1, pa.RecordBatch.from_pylist([place | dict(values)], SCHEMAS[table]))
