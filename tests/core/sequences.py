"""A governor under any sequence of findings, words, outcomes, silence, crashes and restarts.

Every order is held against each guard here, computed from what was said and ordered rather
than by models/guards.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from models.governance import Governed, Record, govern
from models.governor import SWITCH, GovernorState, pack, unpack
from models.guards import allowed
from models.incident import Act
from models.policy import CONTAINING, Guards, Mode, Policy, Protected, Times
from models.records.control import Verb, Word
from models.records.order import Action, Order, Status
from models.records.verdict import Finding, Level
from tests.core.governing import SECOND_NS, START_NS, finding, outcome, tick, word

REPLICAS: Final = 5
LINEAGES: Final = ("registry/shop/cart", "registry/shop/db")
POLICIES: Final = (
    Policy(Mode.ENFORCE, guards=Guards(largest_share=0.4, per_hour=6), times=Times(ttl_s=600)),
    Policy(Mode.ENFORCE, guards=Guards(largest_share=0.8, healthy_floor=3, per_hour=100)),
    Policy(Mode.ENFORCE, protected=Protected(hosts=("h2",)), guards=Guards(largest_share=1.0)),
    Policy(Mode.APPROVE, guards=Guards(largest_share=0.6, per_hour=4), times=Times(ttl_s=600)),
    Policy(Mode.OBSERVE),
)

Step = tuple[str, int, object]
"""What happens, a number that says to whom or for how long, and of which kind."""
KINDS: Final[dict[str, tuple[Sequence[int], Sequence[object]]]] = {
    "find": (range(1, 8), tuple(Level)),
    "late": (range(1, 8), tuple(Level)),
    "wait": ((1, 20, 50, 700, 3700), (None,)),
    "answer": (range(10), tuple(Status)),
    "say": (range(10), tuple(Verb)),
    "again": (range(1, 7), (None,)),
    "crash": ((0,), (None,)),
    "restart": ((0,), (None,)),
}


def drawn(rng: Random, most: int = 40) -> list[Step]:
    """A random sequence; findings of what calls for acts come more often than others."""
    steps: list[Step] = []
    for _ in range(rng.randint(1, most)):
        what = rng.choice(("find", "find", *KINDS))
        numbers, choices = KINDS[what]
        steps.append((what, rng.choice(numbers), rng.choice(choices)))
    return steps


@dataclass
class World:
    """A governor, and a log that hands over again what was not committed."""

    policy: Policy = POLICIES[0]
    now_s: float = 0.0
    state: GovernorState = field(default_factory=GovernorState)
    saved: GovernorState = field(default_factory=GovernorState)
    log: list[Record] = field(default_factory=list)
    outputs: list[Governed] = field(default_factory=list)
    sent: dict[str, Order] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)

    def perform(self, step: Step) -> None:
        """One step; raises AssertionError when a guard was exceeded or a promise broken."""
        what, number, choice = step
        self.now_s += 1
        if what in ("crash", "restart"):
            if what == "crash":
                self.read_again()
            self.state = unpack(pack(self.state))
            self.saved, self.log, self.outputs = self.state, [], []
        elif what == "wait":
            self.now_s += number
            self.take(tick(self.now_s))
        else:
            record = self.record(what, number, choice)
            if record is not None:
                self.take(record)
        subjects = Counter(one.subject for one in self.state.incidents.values() if one.open)
        assert all(count == 1 for count in subjects.values()), "two incidents of one subject"

    def take(self, record: Record) -> None:
        at_ns = record.arrived_ns if isinstance(record, Finding) else record.at_ns
        before, governed = self.state, govern(self.state, record, at_ns, self.policy)
        self.state = governed.state
        self.log.append(record)
        self.outputs.append(governed)
        if isinstance(record, Word) and record.verb is Verb.APPROVE:
            self.approved.add(record.target)
        for order in governed.orders:
            assert order.uid not in self.sent, "ordered twice"
            if order.action not in (Action.RELEASE, Action.EXTEND):
                self.check(order, record, before, governed.state)
            self.sent[order.uid] = order

    def check(
        self, order: Order, record: Record, before: GovernorState, after: GovernorState
    ) -> None:
        """Each guard against an order that does something to a container."""
        self._check_people(order, record, before, after)
        self._check_numbers(order, after)
        if order.action in CONTAINING:
            others = [act for act in _surely_held(after, order.subject) if act.order != order]
            assert not others, "a held container is held again"
            most_ns = order.issued_ns + int(self.policy.times.ttl_s * SECOND_NS)
            assert order.issued_ns < order.until_ns <= most_ns, "held for longer than allowed"

    def _check_people(
        self, order: Order, record: Record, before: GovernorState, after: GovernorState
    ) -> None:
        """What policy and people have said."""
        incident = after.incidents[order.incident]
        assert self.policy.mode is not Mode.OBSERVE, "observing, and ordered"
        assert SWITCH not in before.words, "ordered although all orders were stopped"
        held = [one for one in before.words.values() if one.verb is Verb.HOLD]
        whom = (incident.subject, incident.lineage, incident.group)
        assert not [one for one in held if one.target in whom and one.until_ns > after.now_ns], (
            "ordered although a word holds it"
        )
        assert order.host not in self.policy.protected.hosts, "ordered on a protected host"
        earlier = before.incidents.get(order.incident)
        assert earlier is None or not earlier.ended_by, "ordered after a release"
        approved = order.incident in self.approved
        assert approved or self.policy.mode is not Mode.APPROVE, "ordered without approval"
        if isinstance(record, Finding) and record.verdict.subject == order.subject:
            age_ns = record.arrived_ns - record.verdict.at_ns
            assert age_ns <= self.policy.guards.late_s * SECOND_NS, "a late finding ordered"

    def _check_numbers(self, order: Order, after: GovernorState) -> None:
        """How many at a time, how many in an hour. What has ended in the same step is over."""
        guards, group = self.policy.guards, _lineage_of(order.subject)
        held = {
            one.subject for one in after.incidents.values()
            if one.holding and one.lineage == group
        } | {order.subject}  # fmt: skip  # one set
        assert len(held) <= allowed(REPLICAS, guards.largest_share), "too large a share"
        assert REPLICAS - len(held) >= guards.healthy_floor, "too few stay in service"
        hour = [
            one for one in self.sent.values()
            if one.action not in (Action.RELEASE, Action.EXTEND)
            and order.issued_ns - one.issued_ns < 3600 * SECOND_NS
        ]  # fmt: skip  # one condition
        assert len(hour) < guards.per_hour, "too many in an hour"

    def read_again(self) -> None:
        """Back to what was committed, and the same log once more: the same outputs."""
        self.state = unpack(pack(self.saved))
        again = []
        for record in self.log:
            at_ns = record.arrived_ns if isinstance(record, Finding) else record.at_ns
            governed = govern(self.state, record, at_ns, self.policy)
            self.state = governed.state
            again.append(governed)
        assert [one.orders for one in again] == [one.orders for one in self.outputs]
        assert [one.alerts for one in again] == [one.alerts for one in self.outputs]
        assert [one.exhibits for one in again] == [one.exhibits for one in self.outputs]

    def record(self, what: str, number: int, choice: object) -> Record | None:
        """What a step says; None where there is nothing yet that it could be about."""
        if what in ("find", "late") and isinstance(choice, Level):
            return finding(
                choice, self.now_s, container=number, replicas=REPLICAS,
                lineage=_lineage_of(f"{number:064x}"), late_s=0.5 if what == "find" else 90.0,
            )  # fmt: skip  # by subject
        if what == "answer" and isinstance(choice, Status) and self.sent:
            order = list(self.sent.values())[number % len(self.sent)]
            return outcome(order, choice, self.now_s, stage=f"s{number % 2}")
        if what == "say" and isinstance(choice, Verb):
            targets = [*self.state.incidents, *LINEAGES]
            until_ns = START_NS + int((self.now_s + 30) * SECOND_NS)
            target = targets[number % len(targets)]
            return word(choice, target, self.now_s, until_ns=until_ns)
        if what == "again" and self.log:
            found = self.log[-number % len(self.log)]
            return found if isinstance(found, Finding) else None
        return None


def _lineage_of(subject: str) -> str:
    """Containers 6 and 7 are of another image."""
    return LINEAGES[int(subject, 16) > REPLICAS]


def _surely_held(state: GovernorState, subject: str) -> list[Act]:
    """Acts that were done, or will be, have time left, and that nobody ordered to be undone."""
    acts = [act for one in state.incidents.values() if one.subject == subject for act in one.acts]
    undone = {act.order.undoes for act in acts if act.order.action is Action.RELEASE}
    return [
        act for act in acts
        if act.order.action in CONTAINING and act.stands and act.order.uid not in undone
        and act.until_ns > state.now_ns
    ]  # fmt: skip  # one condition


def lived(policy: Policy, steps: Sequence[Step]) -> World:
    """A world after these steps. Raises: AssertionError where a promise was broken."""
    world = World(policy)
    for step in steps:
        world.perform(step)
    return world


def shortest(policy: Policy, steps: Sequence[Step]) -> list[Step]:
    """The steps without those that the same kind of failure does not need."""
    left, at = list(steps), 0
    while at < len(left):
        fewer = left[:at] + left[at + 1 :]
        if _fails(policy, fewer):
            left = fewer
        else:
            at += 1
    return left


def _fails(policy: Policy, steps: Sequence[Step]) -> bool:
    try:
        lived(policy, steps)
    except Exception:  # noqa: BLE001  # whatever it is, it is what we look for
        return True
    return False
