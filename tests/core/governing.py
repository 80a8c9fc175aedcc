"""Builders for the governor's tests: findings, words, outcomes, and a governor that runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from models.evidence import Head
from models.governance import Governed, Record, govern
from models.governor import GovernorState
from models.incident import Incident, Stage
from models.policy import Mode, Policy
from models.records.codec import encode
from models.records.control import Verb, Word
from models.records.exhibit import Exhibit
from models.records.order import Action, Check, Order, Outcome, Status
from models.records.signed import Signed
from models.records.telemetry import Tick
from models.records.verdict import Evidence, Family, Finding, Level, Reason, Verdict

START_NS = 1_790_000_000 * 10**9
SECOND_NS = 10**9
ENFORCE = Policy(mode=Mode.ENFORCE)

SENT = Reason(
    Family.EGRESS, Evidence.MAGNITUDE,
    "sent 48 MB in 60 s to 198.51.100.9:443, never seen; usual ≤ 1.2 MB; 3 siblings unchanged",
    "network_transmit_bytes_per_s", 8e5, 1e3, 2e4, 0.999, "3 siblings unchanged",
)  # fmt: skip  # one reason
RAN = Reason(Family.PROCESS, Evidence.PROOF, "/tmp/xmrig runs and is not in the image")


def subject(number: int) -> str:
    return f"{number:064x}"


def finding(
    level: Level = Level.COMPROMISED, at_s: float = 0.0, *, container: int = 1,
    lineage: str = "registry/shop/cart", replicas: int = 4, late_s: float = 0.5, **given: Any,
) -> Finding:  # fmt: skip  # two lines say as much
    at_ns = START_NS + int(at_s * SECOND_NS)
    reasons = (SENT, RAN) if level is not Level.QUIET else ()
    verdict = Verdict(
        f"v-{level}-{container}-{at_ns}", "default", lineage, "web", f"{lineage}@sha256:1",
        subject(container), f"h{container % 3}", at_ns - 5 * SECOND_NS, at_ns, level, 0.9,
        (Family.EGRESS, Family.PROCESS) if reasons else (), reasons, "forest-1",
        f"cart-{container}",
    )  # fmt: skip  # as the fields lie
    arrived_ns = at_ns + int(late_s * SECOND_NS)
    return Finding(replace(verdict, **given), Level.QUIET, arrived_ns, replicas)


def tick(at_s: float) -> Tick:
    return Tick(START_NS + int(at_s * SECOND_NS))


def word(verb: Verb, target: str = "", at_s: float = 1.0, **given: Any) -> Word:
    at_ns = START_NS + int(at_s * SECOND_NS)
    return Word(f"w-{verb}-{target}-{at_s}", "default", verb, target, "ann", at_ns, **given)


def outcome(
    order: Order, status: Status = Status.DONE, at_s: float = 2.0, *, stage: str = "acted",
    verified: bool | None = True, **given: Any,
) -> Outcome:  # fmt: skip  # two lines say as much
    done = status is Status.DONE and order.action not in (Action.RELEASE, Action.EXTEND)
    return replace(
        Outcome(
            f"{order.uid}/{status}/{stage}", order.uid, order.scope, order.incident, order.subject,
            order.host, order.action, status, START_NS + int(at_s * SECOND_NS), "as ordered",
            verified if done else None, 0.8,
            (Check("probe", bool(verified), "no answer either way"),) if done else (),
        ),
        **given,
    )  # fmt: skip  # as the fields lie


@dataclass
class Bench:
    """A governor, and everything it ever let out."""

    policy: Policy = ENFORCE
    state: GovernorState = field(default_factory=GovernorState)
    orders: list[Order] = field(default_factory=list)
    alerts: list[Any] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    control: list[Any] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)

    def take(self, *records: Record) -> Governed:
        """Each record as it arrives, at its own time; the last one's result."""
        governed = Governed(self.state)
        for record in records:
            at_ns = record.arrived_ns if isinstance(record, Finding) else record.at_ns
            body = encode(record)  # as it came: a word in the envelope of its key
            raw = encode(Signed("ann", b"", body)) if isinstance(record, Word) else body
            governed = govern(self.state, record, at_ns, self.policy, raw)
            self.state = governed.state
            for name in ("orders", "alerts", "exhibits", "heads", "control", "notes"):
                getattr(self, name).extend(getattr(governed, name))
        return governed

    @property
    def incident(self) -> Incident:
        """The only one."""
        (incident,) = self.state.incidents.values()
        return incident

    @property
    def uid(self) -> str:
        return self.incident.uid

    def stage(self) -> Stage:
        return self.incident.stage

    def last_action(self) -> Action:
        """What was ordered last."""
        return self.orders[-1].action

    def noted(self, change: str) -> list[str]:
        return [note.label for note in self.notes if note.change == change]
