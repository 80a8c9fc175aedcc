"""The judge's agent: nothing lost, nothing twice, no neighbour harmed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.contract import KIND_HEADER, Topics, partition_of
from models.errors import MalformedRecord
from models.features import MEASURED
from models.pipeline import Arrival, Core, Judgement
from models.pipeline import judge as judged_really
from models.records.codec import decode, encode
from models.records.rejected import DeadLetter
from models.records.samples import Samples
from models.records.telemetry import KIND_OF, Batch, Member, Telemetry, Tick
from models.records.verdict import Finding
from models.state import LineageState, pack, unpack
from streams.agents import judge as agent
from streams.agents.judge import Judge
from streams.delivery.rejected import Rejects
from streams.meters import Meters
from streams.stores.baselines import rows_on
from streams.tables import Rows
from tests.core.governing import finding
from tests.wiring.test_tables import Memory, committed

TOPICS = Topics()
PARTITIONS = 4
NOW_NS = 1_790_000_000 * 10**9
SECOND_NS = 10**9


@dataclass
class Sent:
    """Stands where Kafka is: what was handed over, in order."""

    records: list[tuple[str, bytes]] = field(default_factory=list)
    broken: bool = False

    async def send(
        self, topic: str, _key: Any, value: bytes, *, partition: Any = None, headers: Any = ()
    ) -> None:
        if self.broken:
            raise ConnectionError("no broker")
        self.records.append((topic, value))

    def letters(self) -> list[DeadLetter]:
        return [
            decode(DeadLetter, value) for topic, value in self.records if topic == TOPICS.rejected
        ]


def batch(lineage: str = "shop/cart", second: int = 0) -> Batch:
    subject = "c" * 64
    table = Samples(
        ("cpu_cores",), (subject,), np.zeros(1, np.int64),
        np.full(1, NOW_NS + second * SECOND_NS, np.int64), np.full((1, 1), 0.2),
    )  # fmt: skip  # one sample
    return Batch("default", lineage, "", (Member(subject, "h1", f"{lineage}@1"),), table, 1.0)


def event(offset: int, record: Telemetry, **changed: Any) -> Any:
    group = "" if isinstance(record, Tick) else record.group
    message = {
        "topic": TOPICS.telemetry, "offset": offset, "key": group.encode() or None,
        "partition": partition_of(group.encode(), PARTITIONS), "value": encode(record),
        "timestamp": NOW_NS / 1e9, "headers": [(KIND_HEADER, KIND_OF[type(record)].encode())],
    }  # fmt: skip  # as Kafka has it
    return SimpleNamespace(message=SimpleNamespace(**{**message, **changed}))


@dataclass
class Bench:
    sent: Sent = field(default_factory=Sent)
    meters: Meters = field(default_factory=Meters)
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.rows: Rows[LineageState] = Rows(self.memory, pack, unpack, [TOPICS.telemetry])
        outbox: Any = self.sent
        rejects = Rejects(outbox, TOPICS.rejected, by="worker")
        self.judge = Judge(self.rows, Core, outbox, rejects, TOPICS, PARTITIONS, self.meters)

    def take(self, *events: Any) -> None:
        asyncio.run(self.judge.take(list(events)))


def test_what_cannot_be_decoded_harms_no_neighbour() -> None:
    """One record of one bad collector must not cost an image its history."""
    bench = Bench()

    bench.take(event(0, batch()), event(1, batch(), value=b"{"), event(2, batch(second=1)))

    (letter,) = bench.sent.letters()
    assert (letter.offset, letter.fault) == (1, "undecodable")
    assert bench.rows.applied(batch().group) == {0: 2}
    assert bench.meters.read("samples") == 2


def test_a_batch_is_judged_the_same_in_either_form_and_harms_no_neighbour_when_damaged() -> None:
    """Collectors and gathers are upgraded one by one: both forms lie side by side in the log."""
    json, both = Bench(), Bench()
    rows = [batch(second=second) for second in range(3)]
    cut = rows[2].to_binary()[:-1]

    json.take(event(0, rows[0]), event(1, rows[1]), event(3, rows[2]))
    both.take(
        event(0, rows[0]), event(1, rows[1], value=rows[1].to_binary()),
        event(2, rows[2], value=cut), event(3, rows[2], value=rows[2].to_binary()),
    )  # fmt: skip  # two lines say as much

    (letter,) = both.sent.letters()
    assert (letter.offset, letter.fault, letter.kept) == (2, "undecodable", cut)
    states = [bench.rows.get(batch().group) or LineageState() for bench in (json, both)]
    assert pack(states[0]) == pack(states[1])


@pytest.mark.parametrize(
    ("changed", "fault", "place"),
    [
        ({"key": b"default/other/"}, "misplaced", "key"),
        ({"partition": 99}, "misplaced", "key"),
        ({"headers": []}, "unknown-schema", KIND_HEADER),
        ({"timestamp": NOW_NS / 1e9 - 301}, "misdated", "at_ns"),
    ],
)
def test_a_record_out_of_place_is_kept_with_its_reason(
    changed: dict[str, Any], fault: str, place: str
) -> None:
    """Split over partitions, a lineage would be two half-learned baselines."""
    bench = Bench()

    bench.take(event(0, batch(), **changed))

    (letter,) = bench.sent.letters()
    assert (letter.fault, letter.place) == (fault, place)
    assert bench.rows.get(batch().group) is None


def test_what_came_before_is_passed_over() -> None:
    """Kafka hands over again what a crash left uncommitted; it must not count twice."""
    bench = Bench()
    bench.take(event(0, batch()))
    before = pack(bench.rows.get(batch().group) or LineageState())

    bench.take(event(0, batch()))

    assert pack(bench.rows.get(batch().group) or LineageState()) == before
    assert bench.meters.read("repeated") == 1


def test_no_row_is_kept_whose_outputs_were_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the redelivered batch is passed over, and its alert is lost for good."""
    bench = Bench()
    monkeypatch.setattr(agent, "judge", _with_a_summary)
    bench.sent.broken = True

    with pytest.raises(ConnectionError):
        bench.take(event(0, batch()))

    assert bench.rows.get(batch().group) is None


def _with_a_summary(states: Any, arrivals: Any, core: Core) -> Judgement:
    from models.records.verdict import Summary

    judgement = judged_really(states, arrivals, core)
    judgement.summaries.append(Summary("default", "shop/cart", "", "i", NOW_NS, 1, 1, 0.0, 0.0, {}))
    return judgement


def test_a_record_that_cannot_be_judged_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours must not end every worker that reads the record, one after the other."""

    def fails_on_poison(states: Any, arrivals: list[Arrival], core: Core) -> Judgement:
        if any(arrival.group == batch("poison").group for arrival in arrivals):
            raise ZeroDivisionError("a fault of ours")
        return judged_really(states, arrivals, core)

    monkeypatch.setattr(agent, "judge", fails_on_poison)
    bench = Bench()

    bench.take(event(0, batch()), event(1, batch("poison")), event(2, batch(second=1)))

    (letter,) = bench.sent.letters()
    assert (letter.offset, letter.fault) == (1, "unjudged")
    assert bench.rows.applied(batch().group) == {0: 2}
    assert bench.rows.get(batch("poison").group) is None


def test_a_tick_moves_its_own_partition_only() -> None:
    """Ticks of other partitions come by themselves; taken here they would come twice."""
    bench = Bench()
    here = partition_of(batch().group.encode(), PARTITIONS)
    elsewhere = (here + 1) % PARTITIONS
    bench.take(event(0, batch()))
    before = bench.rows.applied(batch().group)
    late = Tick(NOW_NS + 200 * SECOND_NS)

    bench.take(event(7, late, partition=elsewhere))
    assert bench.rows.applied(batch().group) == before

    bench.take(event(8, late, partition=here))
    assert bench.rows.applied(batch().group) == {0: 8}


def test_the_pipeline_refuses_what_is_dated_ahead() -> None:
    """A clock an hour ahead would keep every later sample of the container out."""
    from models.pipeline import check_arrival

    with pytest.raises(MalformedRecord, match="after its arrival"):
        check_arrival(batch(second=400), NOW_NS)


def test_a_lineage_of_few_containers_costs_a_commit_one_small_record() -> None:
    """A hundred thousand images of four records with two bodies each are 1.3 GB to start from."""
    memory = Memory()
    rows = rows_on(memory, TOPICS)
    state = settled(containers=5)
    for offset in range(2):  # from the second on a row would lie beside its former body
        rows.keep(event(offset, batch()), batch().group, state, offset)
        assert committed(rows, memory)

    assert list(memory.rows) == [f"m|{batch().group}".encode()]
    assert len(memory.rows[f"m|{batch().group}".encode()]) < 12_000
    assert pack(rows_on(memory, TOPICS).get(batch().group) or LineageState()) == pack(state)


def settled(containers: int) -> LineageState:
    """A lineage that has learned, of containers that have every feature."""
    rng, states = np.random.default_rng(0), dict[str, LineageState]()
    members = tuple(Member(f"{at:064x}", "h1", "shop/cart@1") for at in range(containers))
    for turn in range(60):
        table = Samples(
            tuple(feature.name for feature in MEASURED), tuple(one.subject for one in members),
            np.arange(containers), np.full(containers, NOW_NS + turn * 5 * SECOND_NS),
            rng.lognormal(0.0, 0.1, (len(MEASURED), containers)) * 100.0,
        )  # fmt: skip  # one thought a line
        one = Batch("default", "shop/cart", "", members, table, 5.0)
        states |= judged_really(states, [Arrival(one.group, one, one.at_ns)], Core()).states
    return states[batch().group]


@pytest.mark.parametrize("read", [True, False])
def test_findings_of_a_cold_partition_say_so(read: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The governor orders nothing by them: what was normal there is lost."""
    bench = Bench()
    first = event(7, batch())
    bench.rows.began({(TOPICS.telemetry, first.message.partition): read})
    monkeypatch.setattr(agent, "judge", lambda *_: Judgement(findings=[finding()]))

    bench.take(first)

    (told,) = [decode(Finding, value) for topic, value in bench.sent.records
               if topic == TOPICS.findings]  # fmt: skip  # two lines
    assert told == replace(finding(), cold=read)
