"""Why an act is withheld: every guard in one place, each with its sentence.

A person's approval stands in for mode *approve*, for lateness and for a cold judge; every other
guard holds against everyone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import Final

from models.governor import HOUR_NS, SWITCH, GovernorState, standing
from models.incident import Incident
from models.policy import Mode, Policy
from models.records.control import Verb
from models.records.order import Action

PAST: Final = {
    Action.ISOLATE: "isolated",
    Action.PAUSE: "paused",
    Action.STOP: "stopped",
    Action.REDEPLOY: "redeployed",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """``guard`` is a short word, fit for a counter's label."""

    guard: str
    why: str

    def told(self, action: Action) -> str:
        """The sentence for incident and alert.

        >>> Refusal("mode", "the policy's mode is observe").told(Action.ISOLATE)
        "would have isolated; refused: the policy's mode is observe"
        """
        return f"would have {PAST[action]}; refused: {self.why}"


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked: this action on this incident's subject, now. ``found_ns`` is when what
    calls for it happened, ``arrived_ns`` when it was known; ``cold``: by a judge that had
    lost what it knew.
    """

    incident: Incident
    action: Action
    now_ns: int
    found_ns: int
    arrived_ns: int
    approved: bool = False
    cold: bool = False


def refusal(state: GovernorState, policy: Policy, case: Case) -> Refusal | None:
    """The first guard that speaks against it, or None."""
    return next(_refusals(state, policy, case), None)


def _refusals(state: GovernorState, policy: Policy, case: Case) -> Iterator[Refusal]:
    incident, now_ns = case.incident, case.now_ns
    if incident.of_host:
        yield Refusal("host", "hosts are not acted upon: look at it yourself")
    protection = policy.protection(incident.lineage, incident.host, incident.subject, incident.name)
    if protection:
        yield Refusal("protected", protection)
    switch = state.words.get(SWITCH)
    if switch is not None:
        since = _clock(switch.at_ns)
        yield Refusal("switch", f"{switch.operator} stopped all orders at {since}")
    hold = standing(state, Verb.HOLD, incident, now_ns)
    if hold is not None:
        until = _clock(hold.until_ns)
        yield Refusal("hold", f"{hold.operator} holds orders for {hold.target} until {until}")
    if incident.ended_by:
        yield Refusal("released", f"{incident.ended_by} released this incident")
    if not case.approved:
        yield from _late(policy, case)
    if case.cold and not case.approved:
        yield Refusal(
            "cold",
            "the judge has lost what was normal here, its orders are suspended until "
            "`plimsoll rebuild` has restored it",
        )
    yield from _too_many(state, policy, case)
    if policy.mode is Mode.OBSERVE:
        yield Refusal("mode", "the policy's mode is observe")


def _late(policy: Policy, case: Case) -> Iterator[Refusal]:
    age_s = (max(case.arrived_ns, case.now_ns) - case.found_ns) / 1e9
    if age_s > policy.guards.late_s:
        limit = f"older than {policy.guards.late_s:.0f} s orders nothing"
        yield Refusal("late", f"the finding was {age_s:.0f} s old on arrival, what is {limit}")


def _too_many(state: GovernorState, policy: Policy, case: Case) -> Iterator[Refusal]:
    incident, guards = case.incident, policy.guards
    out = len(out_of_service(state, incident))
    replicas = max(incident.replicas, out + 1)
    if out + 1 > allowed(replicas, guards.largest_share):
        noun = "is" if out == 1 else "are"
        yield Refusal(
            "share",
            f"{out} of {replicas} replicas of {incident.lineage} {noun} out of service by our "
            f"doing already (limit {guards.largest_share:.0%})",
        )
    if replicas - out - 1 < guards.healthy_floor:
        yield Refusal(
            "floor",
            f"{replicas - out - 1} of {replicas} replicas of {incident.lineage} would stay in "
            f"service (at least {guards.healthy_floor})",
        )
    recent = sum(at_ns > case.now_ns - HOUR_NS for at_ns in state.acted_ns)
    if recent >= guards.per_hour:
        yield Refusal("rate", f"{recent} acts in the last hour already (limit {guards.per_hour})")


def allowed(replicas: int, largest_share: float) -> int:
    """How many replicas may be out of service at a time.

    >>> [allowed(n, 0.34) for n in (1, 2, 3, 4, 6)]
    [1, 1, 1, 1, 2]
    """
    return max(1, floor(replicas * largest_share + 1e-9))


def out_of_service(state: GovernorState, incident: Incident) -> set[str]:
    """Other subjects of the incident's image that our acts hold, or may hold."""
    return {
        other.subject
        for other in state.incidents.values()
        if other.group == incident.group and other.subject != incident.subject and other.holding
    }


def _clock(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
