"""Whatever comes in whatever order: no guard is exceeded, nothing is ordered twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.evidence import Head, verify
from models.governance import Governed, Record, govern
from models.governor import SWITCH, GovernorState, pack, unpack
from models.guards import allowed
from models.incident import Act
from models.policy import CONTAINING, Guards, Mode, Policy, Times
from models.records.control import Verb
from models.records.exhibit import Exhibit
from models.records.order import Action, Order, Status
from models.records.verdict import Finding, Level
from tests.core.governing import SECOND_NS, START_NS, finding, outcome, tick, word

REPLICAS = 5
POLICY = Policy(
    mode=Mode.ENFORCE, guards=Guards(largest_share=0.4, per_hour=6), times=Times(ttl_s=600)
)
Step = tuple[str, int, object]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("find"), st.integers(1, 5), st.sampled_from(Level)),
        st.tuples(st.just("wait"), st.sampled_from([1, 20, 50, 700, 3700]), st.none()),
        st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(Status)),
        st.tuples(st.just("say"), st.integers(0, 9), st.sampled_from(Verb)),
        st.tuples(st.just("again"), st.integers(1, 6), st.none()),
        st.tuples(st.just("crash"), st.just(0), st.none()),
    ),
    min_size=1,
    max_size=40,
)  # fmt: skip  # one kind of step a line


@dataclass
class World:
    """A governor under crashes, and a log that hands over again what was not committed."""

    now_s: float = 0.0
    state: GovernorState = field(default_factory=GovernorState)
    committed: bytes = b""
    saved: GovernorState = field(default_factory=GovernorState)
    log: list[Record] = field(default_factory=list)
    outputs: list[Governed] = field(default_factory=list)
    sent: dict[str, Order] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        at_ns = record.arrived_ns if isinstance(record, Finding) else record.at_ns
        before, governed = self.state, govern(self.state, record, at_ns, POLICY)
        self.state = governed.state
        self.log.append(record)
        self.outputs.append(governed)
        for order in governed.orders:
            assert order.uid not in self.sent, "ordered twice"
            self.check(order, before, governed.state)
            self.sent[order.uid] = order

    def check(self, order: Order, before: GovernorState, after: GovernorState) -> None:
        if order.action in (Action.RELEASE, Action.EXTEND):
            return
        assert SWITCH not in before.words
        held = {one.subject for one in before.incidents.values() if one.holding}
        assert len(held | {order.subject}) <= allowed(REPLICAS, POLICY.guards.largest_share)
        if order.action in CONTAINING:
            others = [act for act in _surely_held(after, order.subject) if act.order != order]
            assert not others, "a held container is held again"
        hour = [
            one for one in self.sent.values()
            if one.action not in (Action.RELEASE, Action.EXTEND)
            and order.issued_ns - one.issued_ns < 3600 * SECOND_NS
        ]  # fmt: skip  # one condition
        assert len(hour) < POLICY.guards.per_hour

    def crash(self) -> None:
        """Back to what was committed, and the same log once more: the same outputs."""
        self.state = unpack(pack(self.saved))
        again = []
        for record in self.log:
            at_ns = record.arrived_ns if isinstance(record, Finding) else record.at_ns
            governed = govern(self.state, record, at_ns, POLICY)
            self.state = governed.state
            again.append(governed)
        assert [one.orders for one in again] == [one.orders for one in self.outputs]
        assert [one.alerts for one in again] == [one.alerts for one in self.outputs]
        assert [one.exhibits for one in again] == [one.exhibits for one in self.outputs]

    def record(self, what: str, number: int, choice: object) -> Record | None:
        if what == "find" and isinstance(choice, Level):
            return finding(choice, self.now_s, container=number, replicas=REPLICAS)
        if what == "answer" and isinstance(choice, Status) and self.sent:
            order = list(self.sent.values())[number % len(self.sent)]
            return outcome(order, choice, self.now_s, stage=f"s{number % 2}")
        if what == "say" and isinstance(choice, Verb):
            targets = [*self.state.incidents, "registry/shop/cart"]
            until_ns = START_NS + int((self.now_s + 30) * SECOND_NS)
            target = targets[number % len(targets)]
            return word(choice, target, self.now_s, until_ns=until_ns)
        if what == "again" and self.log:
            found = self.log[-number % len(self.log)]
            return found if isinstance(found, Finding) else None
        return None


def _surely_held(state: GovernorState, subject: str) -> list[Act]:
    """Acts that were done, or will be, and that nobody has ordered to be undone."""
    acts = [act for one in state.incidents.values() if one.subject == subject for act in one.acts]
    undone = {act.order.undoes for act in acts if act.order.action is Action.RELEASE}
    return [
        act for act in acts
        if act.order.action in CONTAINING and act.stands and act.order.uid not in undone
    ]  # fmt: skip  # one condition


COMPROMISED, CORRUPTED = Level.COMPROMISED, Level.CORRUPTED
# Each of these has broken a guarantee once.
TWO_WAITING: list[Step] = [("find", 1, CORRUPTED), ("find", 2, CORRUPTED), ("crash", 0, None)]
LATE_FAILURE: list[Step] = [("find", 1, COMPROMISED), ("wait", 50, None)]
LONG_AGO: list[Step] = [("find", 1, COMPROMISED), ("wait", 1, None), ("wait", 3700, None)]


@settings(max_examples=250, deadline=None)
@given(STEPS)
@example([*TWO_WAITING, ("wait", 50, None), ("crash", 0, None)])
@example([*LATE_FAILURE, ("answer", 0, Status.FAILED)])
@example([*LONG_AGO, ("wait", 3700, None), ("again", 3, None), ("find", 1, COMPROMISED)])
def test_no_guard_is_exceeded_and_nothing_is_ordered_twice(
    steps: list[Step],
) -> None:
    """The governor is the one part that can take production down: it has to hold always."""
    world = World()
    for what, number, choice in steps:
        world.now_s += 1
        if what == "crash":
            world.crash()
            world.saved, world.log, world.outputs = world.state, [], []
        elif what == "wait":
            world.now_s += number
            world.take(tick(world.now_s))
        else:
            record = world.record(what, number, choice)
            if record is not None:
                world.take(record)
        subjects = Counter(one.subject for one in world.state.incidents.values() if one.open)
        assert all(count == 1 for count in subjects.values())


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_chain_holds_whatever_it_was_made_of(steps: list[Step]) -> None:
    """Evidence that does not verify is worse than none."""
    world = World()
    exhibits: list[Exhibit] = []
    heads: list[Head] = []
    for what, number, choice in steps:
        world.now_s += 1
        record = world.record(what, number, choice) if what not in ("crash", "wait") else None
        world.take(record or tick(world.now_s))
        exhibits += world.outputs[-1].exhibits
        heads += world.outputs[-1].heads
    for uid in {one.incident for one in exhibits}:
        chain = [one for one in exhibits if one.incident == uid]
        assert verify(chain, [head for head in heads if head.incident == uid]).holds
        assert not verify(chain[1:], [head for head in heads if head.incident == uid]).holds
