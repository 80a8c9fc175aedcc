"""Records the archive that the notebooks are tried on: ``python -m tests.notebooks.record``.

The simulated fleet, gather's regrouping, judge and governor, as they run live, in one thread;
every record becomes rows as `plimsoll archive` makes them. Only a few lineages are kept, so that
it stays small. The same release makes the same rows.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from models.contract import KIND_HEADER, partition_of
from models.governance import govern
from models.governor import GovernorState
from models.ledger import Governed
from models.lineage import LineageState
from models.pipeline import Arrival, Core, Judgement, judge, tick
from models.policy import CONTAINING, Mode, Policy
from models.records.codec import encode
from models.records.frame import Frame
from models.records.order import Order, Outcome, Status
from models.records.signed import Signed
from models.records.telemetry import KIND_OF, Batch, Sightings, Tick
from models.records.verdict import Finding
from producers.gather.inventory import Inventory
from producers.gather.ledger import Lot as Owed
from producers.gather.regroup import Regrouper
from producers.sources.simulated import Fleet
from streams.alerts import wrapped
from streams.archive.layout import Archive
from streams.archive.lot import Lot
from streams.archive.tables import Entry, rows_of

WHERE: Final = Path(__file__).parent / "recorded"
START_NS: Final = 1_790_000_000 * 10**9
"""2026-09-21 14:13:20."""
STEP_S: Final = 5.0
LASTS_S: Final = 3_000.0
STORIES: Final = {"exfiltration": 2_400.0, "partner-address": 2_460.0, "load-spike": 2_640.0}
"""When each begins: an attack, and two that only look like one."""
KEPT: Final = ("orders-db", "payments", "search")
PARTITIONS: Final = 2
SEED: Final = 1

Record = Batch | Sightings | Tick


@dataclass
class Recording:
    """A fleet whose records go where they would go live. ``steps`` gives what each brings."""

    fleet: Fleet = field(default_factory=lambda: Fleet(SEED, START_NS))
    states: list[dict[str, LineageState]] = field(
        default_factory=lambda: [{} for _ in range(PARTITIONS)]
    )
    governor: GovernorState = field(default_factory=GovernorState)
    offsets: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._core, self._policy = Core(), Policy(mode=Mode.ENFORCE)
        self._regroup = Regrouper(Inventory(), 1_000, 10 * 10**9)

    def steps(self) -> Iterator[list[Entry]]:
        due = dict(STORIES)
        while (passed_s := (self.fleet.now_ns() - START_NS) / 1e9) < LASTS_S:
            for name in [name for name, at_s in due.items() if at_s <= passed_s]:
                self.fleet.begin(name)
                del due[name]
            yield list(self._step())

    def _step(self) -> Iterator[Entry]:
        frames = self.fleet.step(STEP_S)
        yield from self._gathered(frames)
        made, _ = self._regroup.flush()
        of: list[list[Arrival]] = [[] for _ in range(PARTITIONS)]
        for one in made:
            if any(one.record.lineage.endswith(f"/{name}") for name in KEPT):
                place = partition_of(one.key.encode(), PARTITIONS)
                of[place].append(Arrival(one.key, one.record, self._arrives_ns()))
                yield self._entry("telemetry", place, one.record, one.key)
        now = Tick(self.fleet.now_ns())
        for place, arrivals in enumerate(of):
            yield from self._judged(place, judge(self.states[place], arrivals, self._core))
            yield self._entry("telemetry", place, now)
            yield from self._judged(place, tick(self.states[place], now, self._core))
        yield self._entry("findings", 0, now)
        yield from self._governed(now)

    def _gathered(self, frames: Iterable[Frame]) -> Iterator[Entry]:
        for frame in frames:
            for entry in frame.inventory:
                self._regroup.learn(entry)
                if any(entry.lineage.endswith(f"/{name}") for name in KEPT):
                    yield self._entry("inventory", 0, entry, entry.subject)
            self._regroup.add(frame, self.fleet.now_ns(), Owed())

    def _judged(self, place: int, judged: Judgement) -> Iterator[Entry]:
        self.states[place] |= judged.states
        for verdict in judged.verdicts:
            yield self._entry("verdicts", place, verdict, verdict.group)
        for summary in judged.summaries:
            yield self._entry("verdicts", place, summary, summary.group)
        for finding in judged.findings:
            yield self._entry("findings", 0, finding, finding.verdict.group)
            yield from self._governed(finding)

    def _governed(self, record: Finding | Tick | Outcome) -> Iterator[Entry]:
        governed = govern(self.governor, record, self._arrives_ns(), self._policy)
        self.governor = governed.state
        yield from self._told(governed)
        for order in governed.orders:
            yield self._entry("orders", 0, order, order.host)
            outcome = self._carried_out(order)
            yield self._entry("outcomes", 0, outcome, order.uid)
            yield from self._governed(outcome)

    def _told(self, governed: Governed) -> Iterator[Entry]:
        for exhibit in governed.exhibits:
            yield self._entry("evidence", 0, exhibit, exhibit.incident)
        for alert in governed.alerts:
            record = wrapped(alert)
            yield self._raw("alerts", 0, record.key, record.value, dict(record.headers))

    def _carried_out(self, order: Order) -> Outcome:
        if order.action in CONTAINING:
            self.fleet.disconnect(order.subject)
        return Outcome(
            f"{order.uid}-done", order.uid, order.scope, order.incident, order.subject,
            order.host, order.action, Status.DONE, self._arrives_ns(), "simulated",
            verified=True, took_s=0.2,
        )  # fmt: skip  # as the fields lie

    # ---- as the topics hold it ---------------------------------------------------------------

    def _arrives_ns(self) -> int:
        return self.fleet.now_ns() + 200 * 10**6

    def _entry(self, role: str, place: int, record: Any, key: str = "") -> Entry:
        value = encode(record)
        if isinstance(record, Order):
            value = encode(Signed("governor-1", bytes(64), value))
        kind = KIND_OF.get(type(record), type(record).__name__.lower())
        return self._raw(role, place, key.encode(), value, {KIND_HEADER: kind.encode()})

    def _raw(
        self, role: str, place: int, key: bytes, value: bytes, headers: Mapping[str, bytes]
    ) -> Entry:
        topic = f"plimsoll.{role}"
        offset = self.offsets[topic, place]
        self.offsets[topic, place] += 1
        arrived_ms = self._arrives_ns() // 10**6
        return Entry(role, topic, place, offset, arrived_ms, key, value, headers)


def main() -> None:
    shutil.rmtree(WHERE, ignore_errors=True)
    with Archive(WHERE) as archive:
        lot = Lot(archive, "simulated", 1 << 30)
        for entries in Recording().steps():
            for one in entries:
                lot.add(one, rows_of(one))
        lot.commit()
    shutil.rmtree(WHERE / ".drafts")
    (WHERE / ".lock").unlink()


if __name__ == "__main__":
    main()
