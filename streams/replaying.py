"""A past window through the same judge and governor, with any model, policy or budget.

Everything before the window is judged as well, so that baselines are as they were; only what
falls into the window is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from models.governance import govern
from models.governor import GovernorState
from models.pipeline import Core, Judgement, Models, Turns
from models.policy import CONTAINING, Mode, Policy
from models.records.order import Order, Outcome, Status
from models.records.telemetry import Tick
from models.records.verdict import Finding, Level, Summary, Verdict
from models.replay import Recorded, Replay, Source

SAME_NS: Final = 600 * 10**9
"""Two models seldom say it in the same second: a ticket that is that near is the same."""
LATE_NS: Final = 60 * 10**9
"""What arrives later than this after its window orders nothing; so far we read on."""


@dataclass(slots=True)
class Decided:
    """What was, or would have been, decided in a window (event time)."""

    verdicts: list[Verdict] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    samples: int = 0
    unjudged: int = 0

    def alarms(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.rises]

    def tickets(self) -> list[Finding]:
        """The alarms that call somebody: a container that was below *corrupted* before."""
        return [one for one in self.alarms() if one.before.rank < Level.CORRUPTED.rank]

    def isolated(self) -> dict[str, str]:
        """Containers that an order takes out of service, each with its image."""
        images = {one.verdict.subject: one.verdict.image for one in self.findings}
        held = [order.subject for order in self.orders if order.action in CONTAINING]
        return {subject: images.get(subject, "") for subject in held}

    @property
    def isolations(self) -> int:
        """Orders that take a container out of service."""
        return sum(order.action in CONTAINING for order in self.orders)


def replayed(
    source: Source, core: Core, policy: Policy, scope: str, window: tuple[int, int],
    warm_up: Core | None = None,
) -> Decided:  # fmt: skip  # two lines read better than five
    """What the judge with this core, and the governor with this policy, would have decided.

    ``warm_up`` judges what lies before the window, where that is not to be ``core``'s model.
    The policy's mode counts as *enforce*: the question is what it would do.
    """
    from_ns, until_ns = window
    core = core if warm_up is None else _from(warm_up, core, from_ns)
    replay, told = Replay(core), Decided()
    counted = _Counted(from_ns, until_ns)
    for judged in replay.run(_of_scope(source.records(0, until_ns + LATE_NS), scope), counted):
        _keep(told, judged, window)
    told.samples, told.unjudged = counted.samples, replay.unjudged
    told.orders = ordered(told.findings, policy)
    return told


def ordered(findings: Iterable[Finding], policy: Policy) -> list[Order]:
    """What a governor with this policy would order, every act done at once and verified."""
    policy, state = replace(policy, mode=Mode.ENFORCE), GovernorState()
    orders: list[Order] = []
    for finding in sorted(findings, key=lambda one: (one.arrived_ns, one.verdict.uid)):
        for record in (Tick(finding.arrived_ns), finding):
            governed = govern(state, record, finding.arrived_ns, policy)
            state = governed.state
            for order in governed.orders:
                orders.append(order)
                state = govern(state, _done(order), order.issued_ns, policy).state
    return orders


def _done(order: Order) -> Outcome:
    return Outcome(
        f"replayed-{order.uid}", order.uid, order.scope, order.incident, order.subject,
        order.host, order.action, Status.DONE, order.issued_ns, "replayed", verified=True,
    )  # fmt: skip  # as the fields lie


def _from(before: Core, core: Core, from_ns: int) -> Core:
    """The models of the time up to the window, then those that are asked about."""
    then, asked = before.models, core.models
    own = {
        lineage: _turned(then.own.get(lineage, ()), asked.own.get(lineage, ()), from_ns)
        for lineage in sorted(then.own.keys() | asked.own.keys())
    }
    forests = _turned(then.forests, asked.forests, from_ns)
    return replace(core, models=Models(forests, asked.shadows, own, asked.own_shadows))


def _turned(then: Turns, asked: Turns, from_ns: int) -> Turns:
    kept = tuple(turn for turn in then if turn[0] < from_ns)
    later = tuple((max(at_ns, from_ns), forest) for at_ns, forest in asked)
    return (*kept, *(later or ((from_ns, None),)))


def _keep(told: Decided, judged: Judgement, window: tuple[int, int]) -> None:
    told.verdicts += [one for one in judged.verdicts if window[0] <= one.at_ns < window[1]]
    told.summaries += [one for one in judged.summaries if window[0] <= one.at_ns < window[1]]
    told.findings += [one for one in judged.findings if window[0] <= one.verdict.at_ns < window[1]]


class _Counted:
    """Samples of records that arrived in the window."""

    def __init__(self, from_ns: int, until_ns: int) -> None:
        self._from_ns, self._until_ns = from_ns, until_ns
        self.samples = 0

    def __call__(self, one: Recorded) -> None:
        if self._from_ns <= one.arrived_ns < self._until_ns:
            self.samples += len(getattr(one.record, "samples", ()))


def _of_scope(records: Iterable[Recorded], scope: str) -> Iterator[Recorded]:
    return (one for one in records if isinstance(one.record, Tick) or one.record.scope == scope)


# ---- against what was decided -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """Alarms about one image at one level: as decided, and as they would have been."""

    image: str
    level: str
    decided: int
    would: int


@dataclass(frozen=True, slots=True)
class Difference:
    """``new`` and ``gone`` are alarms; the same alarm has the same uid in both."""

    rows: tuple[Row, ...]
    same: int
    new: tuple[Verdict, ...]
    gone: tuple[Verdict, ...]


def compared(decided: Decided, would: Decided) -> Difference:
    """What would have changed."""
    before = {one.verdict.uid: one.verdict for one in decided.alarms()}
    after = {one.verdict.uid: one.verdict for one in would.alarms()}
    was, be = _by_image(before.values()), _by_image(after.values())
    rows = tuple(Row(*key, was[key], be[key]) for key in sorted(was.keys() | be.keys()))
    return Difference(
        rows, len(before.keys() & after.keys()),
        tuple(after[uid] for uid in after if uid not in before),
        tuple(before[uid] for uid in before if uid not in after),
    )  # fmt: skip  # as the fields lie


def _by_image(verdicts: Iterable[Verdict]) -> Counter[tuple[str, str]]:
    return Counter((one.image, one.level.value) for one in verdicts)


# ---- two models over one window -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Apart:
    """How often each of two models would have called somebody about an image, and isolated a
    container of it: both, one alone, the other alone.
    """

    image: str
    tickets: tuple[int, int, int]
    isolations: tuple[int, int, int]


def apart(one: Decided, other: Decided) -> tuple[Apart, ...]:
    """By image. Tickets about one container within :data:`SAME_NS` are the same, and so are
    isolations of one container, whenever they come.
    """
    was = {(t.verdict.subject, t.verdict.at_ns): t.verdict.image for t in one.tickets()}
    be = {
        _nearest(was, t.verdict.subject, t.verdict.at_ns): t.verdict.image for t in other.tickets()
    }
    held, hold = one.isolated(), other.isolated()
    images = sorted({*was.values(), *be.values(), *held.values(), *hold.values()})
    return tuple(
        Apart(image, _split(was, be, image), _split(held, hold, image)) for image in images
    )


def _nearest(known: Iterable[tuple[str, int]], subject: str, at_ns: int) -> tuple[str, int]:
    """The known ticket that this one is, if any; else itself."""
    near = [abs(at - at_ns) for who, at in known if who == subject and abs(at - at_ns) <= SAME_NS]
    least = min(near, default=-1)
    return next(
        ((who, at) for who, at in known if who == subject and abs(at - at_ns) == least),
        (subject, at_ns),
    )


def _split(was: Mapping[Any, str], be: Mapping[Any, str], image: str) -> tuple[int, int, int]:
    """Of this image: in both, in the first alone, in the second alone."""
    ours = {key for key, of in was.items() if of == image}
    theirs = {key for key, of in be.items() if of == image}
    return len(ours & theirs), len(ours - theirs), len(theirs - ours)
