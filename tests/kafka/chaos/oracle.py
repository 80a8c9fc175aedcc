"""What the log should have led to: each part's inputs, taken once more by a single thread.

Each part's outputs are compared with what its own inputs *as written* call for. What comes
twice counts as a duplicate, what does not come at all as lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from models.contract import KIND_HEADER, partition_of
from models.detection import Detection
from models.errors import MalformedRecord
from models.evidence import Head, verify
from models.governance import Record, govern
from models.governor import GovernorState
from models.pipeline import Core
from models.policy import Policy, read_policy
from models.records.codec import decode, encode
from models.records.control import Word
from models.records.exhibit import Exhibit
from models.records.order import Action, Order, Outcome
from models.records.rejected import DeadLetter
from models.records.signed import Signed
from models.records.telemetry import Batch, Tick
from models.records.verdict import Finding
from models.replay import Recorded, Replay
from models.settings import Kafka
from models.state import pack
from streams.agents.govern import turns
from streams.alerts import wrapped
from streams.archive import layout
from streams.archive.tables import archived
from streams.settings import load as settings
from streams.stores.baselines import TABLE, Baselines
from streams.stores.window import TelemetryLog, TopicLog, kind_of
from tests.kafka.chaos.line import POLICY, Line
from tests.kafka.chaos.load import EACH, Load, subject_of
from tests.kafka.chaos.responder import cut_off
from tests.kafka.chaos.trace import Wrong, first_wrong

Say = Callable[[str, float], None]


@dataclass
class Found:
    """What became of one part's inputs; ``equal`` says whether its state, or what it decided,
    is what its log calls for.
    """

    messages: int = 0
    lost: int = 0
    duplicates: int = 0
    equal: bool = True
    notes: dict[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        flat = asdict(self)
        return {**{k: v for k, v in flat.items() if k != "notes"}, **self.notes}


class Oracle:
    """Reads the whole log of a line; every judgement is made once, in its order."""

    def __init__(self, line: Line, load: Load, say: Say) -> None:
        self._line, self._load, self._say = line, load, say
        self._kafka = Kafka(bootstrap=line.bootstrap)
        self._findings: set[bytes] = set()
        self._replay = Replay(Core(detection=_detection()))

    def judged(self) -> dict[str, Found]:
        return {
            "gather": self.gather(), "worker": self.worker(), "govern": self.govern(),
            "respond": self.respond(), "archive": self.archive(),
        }  # fmt: skip  # in the order of the line

    # ---- gather: every row of every frame, and a dead letter for each that is none ----------

    def gather(self) -> Found:
        rows: defaultdict[str, list[Any]] = defaultdict(list)
        telemetry = TelemetryLog(self._kafka.librdkafka(), self._line.topics.telemetry,
                                 lambda share: self._say("gather", share))  # fmt: skip  # two lines
        for one in telemetry.records(0, 0):
            if isinstance(one.record, Batch):
                _by_subject(one.record, rows)
        found = Found(messages=self._load.written)
        whole = 0
        for host, times in self._load.frames.items():
            expected = np.array(times, np.int64)
            missing = np.zeros(len(expected), bool)
            for number in range(EACH):
                came = rows.pop(subject_of(host, number), [])
                counted = np.concatenate(came) if came else np.empty(0, np.int64)
                unique = np.unique(counted)
                found.duplicates += len(counted) - len(unique)
                missing |= ~np.isin(expected, unique)
                whole += len(unique)
            found.lost += int(missing.sum())
        letters = self._letters(self._line.topics.samples)
        found.duplicates += sum(letters.values()) - len(letters)
        found.lost += len(self._load.junk - letters.keys())
        found.equal = letters.keys() == self._load.junk
        found.notes = {"rows": whole, "dead_letters": len(letters)}
        return found

    def _letters(self, source: str) -> Counter[tuple[int, int]]:
        """Dead letters by the place of what they keep."""
        every = (decode(DeadLetter, one.value()) for one in self._read(self._line.topics.rejected))
        return Counter((one.partition, one.offset) for one in every if one.topic == source)

    # ---- worker: the table, and all that was said -------------------------------------------

    def worker(self) -> Found:
        topics, replay = self._line.topics, self._replay
        expected: set[bytes] = set()
        log = TelemetryLog(self._kafka.librdkafka(), topics.telemetry,
                           lambda share: self._say("worker", share))  # fmt: skip  # two lines
        count = 0

        def counted(_one: Recorded) -> None:
            nonlocal count
            count += 1

        for judged in replay.run(log.records(0, 0), counted):
            expected |= {encode(one) for one in (*judged.verdicts, *judged.summaries)}
            self._findings |= {encode(one) for one in judged.findings}
        said = Counter(one.value() for one in self._read(topics.verdicts))
        said.update(one.value() for one in self._read(topics.findings) if kind_of(one) == "finding")
        expected |= self._findings | self._load.findings
        letters = self._letters(topics.telemetry)
        found = Found(messages=count + log.refused)
        found.lost = len(expected - said.keys()) + max(log.refused - len(letters), 0)
        found.duplicates = sum(said.values()) - len(said)
        unlike = self.unlike()
        found.equal = not unlike and not said.keys() - expected
        found.notes = {
            "groups": sum(map(len, replay.states.values())), "findings": len(self._findings),
            "outputs": len(expected), "groups_that_differ": unlike[:5],
            "outputs_nobody_expects": len(said.keys() - expected),
        }  # fmt: skip  # a table
        if unlike:
            found.notes["first_wrong"] = self._first_wrong(unlike)
        return found

    def _first_wrong(self, groups: list[str]) -> list[dict[str, Any]]:
        """Where the tables of these groups' partitions left the replay."""
        topics, kafka = self._line.topics, self._kafka.librdkafka()
        changelog = TopicLog(kafka, f"{self._line.group('worker')}-{TABLE}-changelog")
        count, wrong = changelog.partitions(), list[Wrong]()
        for place in sorted({partition_of(group.encode(), count) for group in groups}):
            rows = (message for message, _, _ in changelog.messages(partitions=[place]))
            records = TelemetryLog(kafka, topics.telemetry).records(0, 0, [place])
            wrong += first_wrong(rows, records, topics, self._replay.core)
        return [asdict(one) for one in wrong]

    def unlike(self) -> list[str]:
        """Groups whose rows in the changelog are not those of the replay."""
        kept = Baselines(
            self._kafka, self._line.topics, self._line.group("worker"), "default"
        ).all()
        rows = {_group(state): pack(state) for state in kept}
        replayed = {
            group: pack(state)
            for states in self._replay.states.values() for group, state in states.items()
        }  # fmt: skip  # one loop a word
        both = rows.keys() | replayed.keys()
        return sorted(one for one in both if rows.get(one) != replayed.get(one))

    # ---- govern: orders, alerts, evidence -----------------------------------------------------

    def govern(self) -> Found:
        orders, alerts, count = self._governed(read_policy(POLICY))
        topics = self._line.topics
        given = Counter(_payload(one.value()) for one in self._read(topics.orders))
        told = Counter(one.value() for one in self._read(topics.alerts))
        found = Found(messages=count)
        found.lost = len(orders - given.keys()) + len(alerts - told.keys())
        found.duplicates = sum(given.values()) - len(given) + sum(told.values()) - len(told)
        found.equal = given.keys() == orders and told.keys() == alerts
        found.notes = {
            "orders": len(orders), "alerts": len(alerts),
            "orders_equal": given.keys() == orders, "alerts_equal": told.keys() == alerts,
            "chains": self._chains(),
        }  # fmt: skip  # a table
        return found

    def _governed(self, policy: Policy) -> tuple[set[bytes], set[bytes], int]:
        """The log of findings, words and outcomes, governed once."""
        state, count = GovernorState(), 0
        orders: set[bytes] = set()
        alerts: set[bytes] = set()
        for message in self._merged():
            count += 1
            record, raw = _decoded(message), message.value()
            governed = govern(state, record, message.timestamp()[1] * 10**6, policy, raw)
            state = governed.state
            orders |= {encode(one) for one in governed.orders}
            alerts |= {wrapped(one).value for one in governed.alerts}
        return orders, alerts, count

    def _merged(self) -> list[Any]:
        """All topics of the governor as one log, by the broker's time."""
        ranks = turns(self._line.topics)
        every = [
            (one.timestamp()[1], rank, one.offset(), one)
            for topic, rank in ranks.items() for one in self._read(topic)
        ]  # fmt: skip  # one loop a word
        return [one for *_, one in sorted(every, key=lambda entry: entry[:3])]

    def _chains(self) -> dict[str, int]:
        """Chains of evidence that hold, and those that do not."""
        exhibits: defaultdict[str, list[Exhibit]] = defaultdict(list)
        heads: defaultdict[str, list[Head]] = defaultdict(list)
        for message in self._read(self._line.topics.evidence):
            incident = (message.key() or b"").decode()
            if dict(message.headers() or ())[KIND_HEADER] == b"head":
                heads[incident].append(decode(Head, _payload(message.value())))
            else:
                exhibits[incident].append(decode(Exhibit, message.value()))
        whole = Counter(verify(exhibits[one], heads[one]).holds for one in exhibits)
        return {"hold": whole[True], "broken": whole[False]}

    # ---- respond: each order answered, each container as its answers say ----------------------

    def respond(self) -> Found:
        orders = {one.uid: one for one in self._orders()}
        answered = Counter(
            encode(decode(Outcome, one.value())) for one in self._read(self._line.topics.outcomes)
        )
        outcomes = [decode(Outcome, one) for one in answered]
        stages = defaultdict(set)
        for one in outcomes:
            stages[one.order].add(one.uid.rsplit("/", 1)[-1])
        found = Found(messages=len(orders))
        unanswered = [
            uid for uid, one in orders.items()
            if one.action is Action.ISOLATE and not stages[uid] >= {"acted", "evidence"}
        ]  # fmt: skip  # one condition
        found.lost = len(unanswered)
        found.duplicates = sum(answered.values()) - len(answered)
        twice = len(outcomes) - len({one.uid for one in outcomes})
        open_ = {one.subject for uid, one in orders.items() if "released" not in stages[uid]}
        cut = cut_off(self._line.directory / "containers.db")
        strange = set(cut) ^ open_
        found.equal = not strange and not twice and all(acts == 1 for acts in cut.values())
        found.notes = {
            "isolated": len(stages), "cut_off_now": len(cut), "unlike": sorted(strange)[:5],
            "said_in_two_ways": twice, "unanswered": unanswered[:5],
        }  # fmt: skip  # a table
        return found

    def unanswered(self) -> int:
        """Orders that have no outcome yet, or whose slow evidence is to come."""
        told = [decode(Outcome, one.value()) for one in self._read(self._line.topics.outcomes)]
        ended = {one.order for one in told if one.uid.endswith("/evidence")}
        return len({one.uid for one in self._orders()} - ended)

    def _orders(self) -> Iterator[Order]:
        for message in self._read(self._line.topics.orders):
            yield decode(Order, _payload(message.value()))

    # ---- archive: every offset in one lot, every sample one row -------------------------------

    def archive(self) -> Found:
        found = Found()
        root = self._line.archive_dir
        spans: defaultdict[layout.Place, list[layout.Span]] = defaultdict(list)
        for _, lot in layout.lots(root):
            for place, span in layout.manifest(lot).spans.items():
                spans[place].append(span)
        for topic in archived(self._line.topics):
            for partition, (first, end) in self._bounds(topic).items():
                lost, twice = _holes(spans[topic, partition], first, end)
                found.messages += end - first
                found.lost += lost
                found.duplicates += twice
        rows = sum(
            pq.ParquetFile(path).metadata.num_rows
            for path in root.glob("day=*/lot-*/samples.parquet")
        )
        sent = sum(map(_samples, self._read(self._line.topics.telemetry)))
        found.equal = rows == sent
        found.notes = {"rows": rows, "rows_in_the_log": sent}
        return found

    # ---- reading ------------------------------------------------------------------------------

    def _read(self, topic: str) -> Iterator[Any]:
        for message, _, _ in TopicLog(self._kafka.librdkafka(), topic).messages():
            yield message

    def _bounds(self, topic: str) -> dict[int, layout.Span]:
        log = TopicLog(self._kafka.librdkafka(), topic)
        for _ in log.messages():
            pass
        return {int(place): (first, end) for place, (first, end) in log.offsets.items()}


def _detection() -> Detection:
    return settings().worker.detection


def _by_subject(batch: Batch, rows: defaultdict[str, list[Any]]) -> None:
    samples = batch.samples
    for at, subject in enumerate(samples.subjects):
        rows[subject].append(samples.times_ns[samples.index == at])


def _samples(message: Any) -> int:
    """How many a record of telemetry holds; the archive keeps those that nobody judges, too."""
    try:
        return len(decode(Batch, message.value()).samples) if kind_of(message) == "batch" else 0
    except MalformedRecord:
        return 0


def _group(state: Any) -> str:
    return f"{state.scope}/{state.lineage}/{state.role}"


def _payload(value: bytes) -> bytes:
    return decode(Signed, value).payload


def _decoded(message: Any) -> Record:
    if message.topic().endswith("control"):
        return decode(Word, _payload(message.value()))
    if message.topic().endswith("outcomes"):
        return decode(Outcome, message.value())
    if kind_of(message) == "tick":
        return decode(Tick, message.value())
    return decode(Finding, message.value())


def _holes(spans: Iterable[layout.Span], first: int, end: int) -> tuple[int, int]:
    """Offsets that no span holds, and those that two hold."""
    lost = twice = 0
    at = first
    for begins, ends in sorted(spans):
        lost += max(begins - at, 0)
        twice += max(min(ends, at) - begins, 0)
        at = max(at, ends)
    return lost + max(end - at, 0), twice
