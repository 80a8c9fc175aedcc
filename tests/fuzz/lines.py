"""Whole parts under hostile records: judge, governor, gather, responder, archive.

A line takes hostile messages and puts them among good ones, the *neighbours*. It fails when
anything is raised, when a neighbour is not treated as it would be alone, or when a message
ends neither in an output nor among the dead letters with its reason. Kafka alone is stood in
for; all else is what runs.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.contract import KIND_HEADER, ONLY_PARTITION, Topics, partition_of
from models.errors import Fault, MalformedRecord
from models.evidence import Head
from models.features import MEASURED
from models.governor import GovernorState, Packer
from models.governor import pack as packed_governor
from models.governor import unpack as unpacked_governor
from models.pipeline import Core
from models.policy import Mode, Policy
from models.records import decode, encode
from models.records.control import Verb, Word
from models.records.exhibit import Exhibit
from models.records.facts import Observation
from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from models.records.order import Order, Outcome
from models.records.rejected import DeadLetter
from models.records.samples import Samples
from models.records.signed import Signed
from models.records.telemetry import KINDS, Batch, Member, Sightings, Tick
from models.records.verdict import VERDICT_KINDS, Finding, Summary, Verdict
from models.state import LineageState, pack, unpack
from producers.gather.incoming import Incoming
from producers.gather.loop import Gather
from producers.meters import GatherMeters
from producers.settings import load
from streams.agents import govern
from streams.agents.govern import BOOK, Governor
from streams.agents.judge import Judge
from streams.alerts import unwrapped
from streams.archive.lot import written_as
from streams.archive.tables import Entry, rows_of, table_of
from streams.delivery.rejected import Rejects
from streams.keys import Role
from streams.meters import Meters
from streams.responders.reception import Accepted, Reception, letter_of
from streams.responders.simulated import ABOUT
from streams.tables import Rows
from tests import responding
from tests.core.governing import SECOND_NS, finding, outcome, word
from tests.fuzz import seeds
from tests.fuzz.hostile import hostile
from tests.fuzz.seeds import NOW_NS
from tests.telemetry.builders import entry, frame
from tests.wiring.test_judge import batch
from tests.wiring.test_tables import Memory

TOPICS: Final = Topics()
PARTITIONS: Final = 4
LIVED_NS: Final = NOW_NS + 601 * SECOND_NS
"""Just after the kept baseline's last sample."""
FAULTS: Final = frozenset(get_args(Fault)) - {"unjudged"}
"""Reasons for which a record may be rejected; *unjudged* is a fault of ours."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record on a topic (by its role), as the log hands it over."""

    role: str
    kind: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Line:
    """``made`` turns hostile bytes into the message that would carry them furthest."""

    name: str
    seeds: Callable[[], Sequence[Message]]
    made: Callable[[Message, bytes], Message]
    take: Callable[[Sequence[Message]], None]


def drawn(line: Line, rng: Random, count: int) -> list[Message]:
    """Hostile messages for a line."""
    known = line.seeds()
    found = []
    for _ in range(count):
        seed = rng.choice(known)
        alike = [
            one.value or b"" for one in known if (one.role, one.kind) == (seed.role, seed.kind)
        ]
        message = line.made(seed, hostile(rng, alike))
        if rng.random() < 0.05:
            message = replace(message, kind=rng.choice(("", "tick", "verdict", "\x00", "é" * 9)))
        if rng.random() < 0.05:
            message = replace(message, key=rng.choice((None, b"", b"\xff", b"default/x/y")))
        found.append(message)
    return found


def among(messages: Sequence[Message], neighbours: Sequence[Message]) -> list[Message]:
    """The neighbours in their order, spread among the messages in theirs."""
    every = max(1, len(messages) // (len(neighbours) + 1))
    mixed, left = [], list(messages)
    for one in neighbours:
        mixed += [*left[:every], one]
        left = left[every:]
    return [*mixed, *left]


@dataclass
class Log:
    """Stands where Kafka is."""

    records: list[tuple[str, bytes | None, bytes, dict[str, bytes]]] = field(default_factory=list)

    async def send(
        self, topic: str, key: Any, value: bytes, *, partition: Any = None, headers: Any = ()
    ) -> None:
        self.records.append((topic, key, value, dict(headers)))

    def letters(self) -> list[DeadLetter]:
        return [decode(DeadLetter, value) for topic, _, value, _ in self.records
                if topic == TOPICS.rejected]  # fmt: skip  # one thought

    def others(self) -> list[tuple[str, bytes | None, bytes, dict[str, bytes]]]:
        return [record for record in self.records if record[0] != TOPICS.rejected]

    def check(self, sent: Sequence[Message], neighbours: Sequence[Message]) -> set[int]:
        """The offsets of what was rejected, each for a reason, none of them a neighbour's."""
        rejected = set()
        for letter in self.letters():
            assert letter.fault in FAULTS, f"{letter.fault}: {letter.reason}"
            assert letter.reason
            assert sent[letter.offset] not in neighbours, f"lost a neighbour: {letter.reason}"
            rejected.add(letter.offset)
        assert len(rejected) == len(self.letters()), "a record was rejected twice"
        for record in self.others():
            _readable(*record)
        return rejected


def _readable(topic: str, key: bytes | None, value: bytes, headers: dict[str, bytes]) -> None:
    """What we send on must be what the next part accepts."""
    role, kind = topic.removeprefix(TOPICS.prefix), headers.get(KIND_HEADER, b"").decode()
    if role == "verdicts":
        decode(VERDICT_KINDS[kind], value)
    elif role == "findings":
        decode(Finding, value)
    elif role == "alerts":
        unwrapped(key, value, headers.items())
    elif role == "orders":
        decode(Order, decode(Signed, value).payload)
    elif role == "evidence":
        decode(Head, decode(Signed, value).payload) if kind == "head" else decode(Exhibit, value)


def _event(offset: int, message: Message, partition: int) -> Any:
    told = SimpleNamespace(
        topic=f"{TOPICS.prefix}{message.role}", partition=partition, offset=offset,
        key=message.key, value=message.value, timestamp=LIVED_NS / 1e9,
        headers=[(KIND_HEADER, message.kind.encode())],
    )  # fmt: skip  # as Faust has it
    return SimpleNamespace(message=told)


# ---- the judge -------------------------------------------------------------------------------


@functools.cache
def _telemetry_seeds() -> list[Message]:
    made = [*seeds.drawn(Batch)[:12], *seeds.drawn(Sightings)[:12], *seeds.drawn(Tick)[:2]]
    return [_telemetry(one) for one in (*made, *_lived())]


def _lived() -> Iterator[Batch | Sightings]:
    """Of a group whose baseline has learned: there all of the judgement runs."""
    state = unpack(seeds.lineage_rows())
    image = next(iter(state.images))
    members = (*state.members.who, Member("d" * 64, "h9", image, "web-9"))
    names = tuple(feature.name for feature in MEASURED)
    for second in range(4):
        columns = np.full((len(names), len(members)), 10.0 ** (second * 3))
        times_ns = np.full(len(members), LIVED_NS + second * SECOND_NS)
        subjects = tuple(member.subject for member in members)
        table = Samples(names, subjects, np.arange(len(members)), times_ns, columns)
        yield Batch("default", state.lineage, state.role, members, table, 1.0)
    for at, seen in enumerate(seeds.drawn(Observation)):
        who = members[at % len(members)]
        about = replace(seen, subject=who.subject, at_ns=LIVED_NS + at * SECOND_NS)
        yield Sightings("default", state.lineage, state.role, members, (about,))


def _telemetry(record: Batch | Sightings | Tick) -> Message:
    kind = next(name for name, known in KINDS.items() if isinstance(record, known))
    key = None if isinstance(record, Tick) else record.group.encode()
    return Message("telemetry", kind, key, encode(record))


def _telemetry_made(seed: Message, value: bytes) -> Message:
    """Under the key and in the partition where what it holds belongs, if it holds anything."""
    try:
        record = decode(KINDS[seed.kind], value)
    except MalformedRecord:
        return replace(seed, value=value)
    group = "" if isinstance(record, Tick) else record.group
    return replace(seed, value=value, key=group.encode() or None)


def _judged(messages: Sequence[Message], apart: Sequence[int] = ()) -> tuple[Log, Rows[Any]]:
    log, memory = Log(), Memory()
    rows: Rows[LineageState] = Rows(memory, pack, unpack, [TOPICS.telemetry])
    group = next(_lived()).group
    before = _event(
        0, Message("telemetry", "", None, None), partition_of(group.encode(), PARTITIONS)
    )
    rows.keep(before, group, unpack(seeds.lineage_rows()), 0)
    outbox: Any = log
    rejects = Rejects(outbox, TOPICS.rejected, by="worker")
    judge = Judge(rows, Core, outbox, rejects, TOPICS, PARTITIONS, Meters())
    events = [
        _event(offset, message, partition_of(message.key or b"", PARTITIONS))
        for offset, message in enumerate(messages)
        if offset not in apart
    ]
    asyncio.run(judge.take(events))
    return log, rows


def judge_line(messages: Sequence[Message]) -> None:
    neighbours = [_telemetry(batch(f"neighbour/{at % 4}", at // 4)) for at in range(12)]
    mixed = [Message("telemetry", "none", None, b""), *among(messages, neighbours)]
    log, rows = _judged(mixed)
    rejected = log.check(mixed, neighbours)
    ticks = [one for at, one in enumerate(mixed) if one.kind == "tick" and at not in rejected]
    alone, untouched = _judged([mixed[0], *_kept(mixed, [*neighbours, *ticks])])
    for one in neighbours:
        group = (one.key or b"").decode()
        assert _state(rows, group) == _state(untouched, group), f"{group} is judged otherwise"
    ours = {one.key for one in neighbours}
    assert [one for one in log.others() if one[1] in ours] == [
        one for one in alone.others() if one[1] in ours
    ], "neighbours' verdicts differ"
    for group in {(one.key or b"").decode(errors="replace") for one in mixed}:
        _state(rows, group)  # whatever it has come to, it can be written and read


def _kept(mixed: Sequence[Message], these: Sequence[Message]) -> list[Message]:
    known = {id(one) for one in these}
    return [one for one in mixed if id(one) in known]


def _state(rows: Rows[LineageState], group: str) -> dict[str, bytes] | None:
    state = rows.get(group)
    if state is None:
        return None
    packed = pack(state)
    assert pack(unpack(packed)) == packed, f"{group} is read otherwise than it was written"
    return packed


# ---- the governor ----------------------------------------------------------------------------

POLICY: Final = Policy(mode=Mode.ENFORCE)
_SPEAKER: Final = seeds.SIGNERS[Role.OPERATOR]


def _spoken(one: Word) -> Word:
    """With the name of the key that signs it."""
    return replace(one, operator=_SPEAKER.name)


@functools.cache
def _governor_seeds() -> list[Message]:
    bench = seeds.governor_bench()
    findings = [finding(container=at, at_s=float(at)) for at in range(3)]
    words = [_spoken(word(verb, bench.orders[0].incident)) for verb in Verb]
    outcomes = [outcome(order) for order in bench.orders]
    return [
        *(Message("findings", "finding", None, encode(one))
          for one in (*findings, *seeds.drawn(Finding)[:8])),
        *(Message("findings", "tick", None, encode(one)) for one in seeds.drawn(Tick)[:2]),
        *(Message("control", "word", None, encode(one)) for one in words),
        *(Message("outcomes", "outcome", None, encode(one))
          for one in (*outcomes, *seeds.drawn(Outcome)[:6])),
    ]  # fmt: skip  # one kind a line


def _governor_made(seed: Message, value: bytes) -> Message:
    """Words are signed, whatever they hold: hostile bytes without a signature go nowhere."""
    if seed.role == "control" and len(value) % 8:
        value = encode(_SPEAKER.sign(value))
    return replace(seed, value=value)


def _governed(messages: Sequence[Message]) -> tuple[Log, Rows[GovernorState]]:
    log, packer = Log(), Packer()
    rows: Rows[GovernorState] = Rows(
        Memory(), packer.pack, unpacked_governor, govern.sources(TOPICS)
    )
    outbox: Any = log
    governor = Governor(
        rows, lambda _at_ns: POLICY, "default", seeds.TRUST, seeds.SIGNERS[Role.GOVERNOR], outbox,
        Rejects(outbox, TOPICS.rejected, by="govern"), TOPICS, Meters(),
    )  # fmt: skip  # as the fields lie
    events = [_event(offset, one, ONLY_PARTITION) for offset, one in enumerate(messages)]
    asyncio.run(governor.take(events))
    return log, rows


def governor_line(messages: Sequence[Message]) -> None:
    """What is rejected leaves no trace: the state is that of the log without it."""
    neighbours = [
        Message("findings", "finding", None,
                encode(finding(container=900 + at, at_s=float(at), lineage=f"neighbour/{at}")))
        for at in range(3)
    ] + [Message("control", "word", None,
                 encode(_SPEAKER.sign(encode(_spoken(
                     word(Verb.HOLD, "neighbour/held", 2.0, until_ns=NOW_NS * 2))))))
         ]  # fmt: skip  # one record each
    mixed = among(messages, neighbours)
    log, rows = _governed(mixed)
    rejected = log.check(mixed, neighbours)
    without, untouched = _governed([one for at, one in enumerate(mixed) if at not in rejected])
    assert not without.letters()
    assert log.others() == without.others(), "a rejected record had an effect"
    state = rows.get(BOOK) or GovernorState()
    assert state == (untouched.get(BOOK) or GovernorState())
    assert unpacked_governor(packed_governor(state)) == state
    known = {one.subject for one in state.incidents.values()}
    for at in range(3):
        assert finding(container=900 + at).verdict.subject in known, (
            "a neighbour's incident is lost"
        )


# ---- gather ----------------------------------------------------------------------------------


@functools.cache
def _gather_seeds() -> list[Message]:
    told = [frame(["c1"], inventory=[entry("c1", "shop/cart")], sequence=at) for at in range(3)]
    return [
        Message("samples", "", one.host.encode(), encode(one))
        for one in (*told, *seeds.drawn(Frame)[:12])
    ] + [
        Message("inventory", "", one.subject.encode(), encode(one))
        for one in seeds.drawn(InventoryEntry)[:6]
    ]


def _gather_made(seed: Message, value: bytes) -> Message:
    if seed.role == "inventory":
        return replace(seed, value=value)
    try:
        return replace(seed, value=value, key=decode(Frame, value).host.encode())
    except MalformedRecord:
        return replace(seed, value=value)


@dataclass
class GatherLog:
    """What gather would hand to Kafka; all of it is delivered at once."""

    log: Log = field(default_factory=Log)
    congested: bool = False
    relieved: bool = True
    undelivered_bytes: int = 0

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, *,
        kind: str = "", lot: Any = None, partition: int = -1,
    ) -> None:  # fmt: skip  # as the real one has it
        headers = {KIND_HEADER: kind.encode()}
        self.log.records.append((topic, key, value or b"", headers))


def gather_line(messages: Sequence[Message]) -> None:
    """Every sample of a neighbour goes out, in a batch of its own image."""
    neighbours = [
        Message("samples", "", f"n{at % 3}".encode(), encode(frame(
            [f"good-{at % 3}"], host=f"n{at % 3}", sequence=at // 3, at_s=at,
            inventory=[entry(f"good-{at % 3}", "neighbour/cart", f"n{at % 3}", seen_s=at)],
        )))
        for at in range(9)
    ]  # fmt: skip  # one record each
    mixed = among(messages, neighbours)
    gather, out = _gather()
    for offset, one in enumerate(mixed):
        _gathered(gather, offset, one)
        if offset % 16 == 15:
            gather._send_all()
    gather._send_all()
    gather._notice_silence(NOW_NS + 3600 * SECOND_NS)  # hosts with any name fall silent
    gather._give_up(NOW_NS + 3600 * SECOND_NS)
    gather._send_all()
    gather._tick(NOW_NS)
    _check_gathered(out, mixed, neighbours)


def _gather() -> tuple[Gather, Log]:
    gather = Gather(load(kafka={"bootstrap": "127.0.0.1:1"}), lambda: NOW_NS, GatherMeters())
    stand_in: Any = GatherLog()
    gather._outbox = stand_in
    gather._partitions[TOPICS.telemetry] = PARTITIONS
    return gather, stand_in.log


def _gathered(gather: Gather, offset: int, one: Message) -> None:
    """As the loop takes in frames, and as the registry takes in what the topic says."""
    came = Incoming(f"{TOPICS.prefix}{one.role}", 0, offset, NOW_NS, one.key, one.value)
    if one.role == "samples":
        gather._take(came)
        return
    try:
        gather._regroup.learn(decode(InventoryEntry, one.value))
    except MalformedRecord as problem:
        gather._refuse(came, problem)


def _check_gathered(out: Log, mixed: Sequence[Message], neighbours: Sequence[Message]) -> None:
    for letter in out.letters():
        assert letter.fault in FAULTS, letter.reason
        assert letter.reason
        assert letter.offset < 0 or mixed[letter.offset] not in neighbours, letter.reason
    samples = 0
    for topic, key, value, headers in out.others():
        if topic == TOPICS.inventory:
            if value:
                decode(InventoryEntry, value)
            continue
        record = decode(KINDS[headers[KIND_HEADER].decode()], value)
        assert isinstance(record, Tick) or key == record.group.encode()
        if isinstance(record, Batch) and record.lineage == "neighbour/cart":
            whose = [record.samples.subjects[at] for at in record.samples.index]
            samples += sum(subject.startswith("good-") for subject in whose)
    assert samples == len(neighbours), f"{samples} of the neighbours' {len(neighbours)} samples"


# ---- the responder ---------------------------------------------------------------------------


@functools.cache
def _order_seeds() -> list[Message]:
    made = [replace(responding.order(action), uid=f"o-{action}") for action in ABOUT.actions]
    made += [replace(one, host=responding.HOST) for one in seeds.drawn(Order)[:6]]
    return [Message("orders", "order", responding.HOST.encode(), encode(one)) for one in made]


def _order_made(seed: Message, value: bytes) -> Message:
    """Most are signed by the governor's own key: what it signs may be hostile, too."""
    if len(value) % 8:
        value = encode(seeds.SIGNERS[Role.GOVERNOR].sign(value))
    return replace(seed, value=value)


def responder_line(messages: Sequence[Message]) -> None:
    """Each is refused with its reason or carried out; the genuine ones are carried out."""
    genuine = [replace(responding.order(), uid=f"genuine-{at}", subject=f"{at:064x}")
               for at in range(2)]  # fmt: skip  # one thought
    neighbours = [
        Message("orders", "order", responding.HOST.encode(),
                encode(seeds.SIGNERS[Role.GOVERNOR].sign(encode(one))))
        for one in genuine
    ]  # fmt: skip  # one record each
    with tempfile.TemporaryDirectory() as folder:
        desk = responding.Desk(Path(folder))
        for one in genuine:
            desk.memory.containers[one.subject] = responding._fresh()
        reception = Reception(seeds.TRUST, "default", (responding.HOST,), ABOUT, desk.clock)
        for message in among(messages, neighbours):
            _received(desk, reception, message)
        for one in genuine:
            assert "isolate" in {rung.action for rung in desk.case(one).rungs}
        desk.store.close()


def _received(desk: responding.Desk, reception: Reception, message: Message) -> None:
    if not reception.addressed(message.key):
        return
    found = reception.received(message.value, desk.store)
    if isinstance(found, Accepted):
        desk.take(found.order)
        return
    assert found.detail
    told = found.outcome(desk.clock())
    assert told is not None or found.fault is not None, "neither an answer nor a dead letter"
    if told is not None:
        decode(Outcome, encode(told))
    if found.fault is not None:
        letter = letter_of(found, ("orders", 0, 7), message.key, message.value, desk.clock())
        decode(DeadLetter, encode(letter))


# ---- the archive -----------------------------------------------------------------------------


@functools.cache
def _archive_seeds() -> list[Message]:
    bench = seeds.governor_bench()
    signed = [seeds.SIGNERS[Role.GOVERNOR].sign(encode(one)) for one in bench.orders]
    heads = [seeds.SIGNERS[Role.GOVERNOR].sign(encode(one)) for one in bench.heads]
    return [
        *_telemetry_seeds(),
        *(Message("inventory", "", b"s", encode(one)) for one in seeds.drawn(InventoryEntry)[:4]),
        *(Message("verdicts", "verdict", b"g", encode(one)) for one in seeds.drawn(Verdict)[:4]),
        *(Message("verdicts", "summary", b"g", encode(one)) for one in seeds.drawn(Summary)[:4]),
        *(Message("findings", "finding", b"g", encode(one)) for one in seeds.drawn(Finding)[:4]),
        *(Message("orders", "order", b"h", encode(one)) for one in signed),
        *(Message("outcomes", "", b"i", encode(one)) for one in seeds.drawn(Outcome)[:4]),
        *(Message("evidence", "exhibit", b"i", encode(one)) for one in bench.exhibits[:4]),
        *(Message("evidence", "head", b"i", encode(one)) for one in heads[:2]),
        *(Message("rejected", "", b"k", encode(one)) for one in seeds.drawn(DeadLetter)[:4]),
        *(Message("alerts", "", b"i", one) for one in seeds.alert_messages()),
    ]  # fmt: skip  # one kind a line


def _as_entry(offset: int, one: Message) -> Entry:
    headers = {KIND_HEADER: one.kind.encode()} | (
        {"ce_specversion": b"1.0", "ce_id": b"i", "ce_source": b"/p", "ce_type": b"t",
         "content-type": b"application/json"} if one.role == "alerts" else {}
    )  # fmt: skip  # one mapping
    return Entry(one.role, f"{TOPICS.prefix}{one.role}", 0, offset, NOW_NS // 10**6, one.key,
                 one.value, headers)  # fmt: skip  # as the fields lie


def archive_line(messages: Sequence[Message]) -> None:
    """Every record has a row, and a file of them all can be written."""
    neighbours = [_telemetry(batch("neighbour/cart", at)) for at in range(6)]
    tables: dict[str, list[Any]] = {}
    for offset, one in enumerate(among(messages, neighbours)):
        rows = rows_of(_as_entry(offset, one))
        assert rows, f"offset {offset} has no row"
        for made in rows:
            tables.setdefault(made.table, []).append(made.held)
    for name, held in tables.items():
        made = table_of(name, held)
        pq.write_table(made, pa.BufferOutputStream(), **written_as(name))
        if name == "samples":
            found = made.filter(pa.compute.equal(made["lineage"], "neighbour/cart"))
            assert len(found) == len(neighbours)


LINES: Final = (
    Line("judge", _telemetry_seeds, _telemetry_made, judge_line),
    Line("governor", _governor_seeds, _governor_made, governor_line),
    Line("gather", _gather_seeds, _gather_made, gather_line),
    Line("responder", _order_seeds, _order_made, responder_line),
    Line("archive", _archive_seeds, lambda seed, value: replace(seed, value=value), archive_line),
)
