"""The judgement of one container (or host) over one interval, with its reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum

from models.contract import telemetry_key
from models.records import checks


class Level(StrEnum):
    """How far past its load line a container is; ordered by :attr:`rank`."""

    QUIET = "quiet"
    WATCH = "watch"
    CORRUPTED = "corrupted"
    SUSPECT = "suspect"
    COMPROMISED = "compromised"

    @property
    def rank(self) -> int:
        return tuple(Level).index(self)


class Family(StrEnum):
    EGRESS = "egress"
    INGRESS = "ingress"
    RESOURCE = "resource"
    PROCESS = "process"
    INTEGRITY = "integrity"
    IDENTITY = "identity"
    ACCESS = "access"
    COVERAGE = "coverage"


class Evidence(StrEnum):
    """What kind of reason it is: a magnitude off its range, a fact never seen before, or a
    proof, which stands alone.
    """

    MAGNITUDE = "magnitude"
    FACT = "fact"
    PROOF = "proof"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict is above quiet. ``text`` is the whole sentence for a person; the rest
    is the same for machines. ``rarity`` is 0 (dull) to 1 (never). Range None: not a number
    that has one. ``siblings`` says what the others of the image do.
    """

    family: Family
    evidence: Evidence
    text: str
    feature: str = ""
    value: float | None = None
    usual_low: float | None = None
    usual_high: float | None = None
    rarity: float = 0.0
    siblings: str = ""

    def __post_init__(self) -> None:
        checks.between(self.rarity, 0.0, 1.0, "rarity")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``uid`` derives from content and event time: the same verdict sent twice is one.
    ``facts`` are the keys of the rare facts that it rests on, ``values`` what the features
    measured that it rests on: what a person who dismisses or confirms it speaks of.
    """

    uid: str
    scope: str
    lineage: str
    role: str
    image: str
    subject: str
    host: str
    from_ns: int
    at_ns: int
    level: Level
    score: float
    families: tuple[Family, ...] = ()
    reasons: tuple[Reason, ...] = ()
    model: str = ""
    name: str = ""
    facts: tuple[str, ...] = ()
    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        for place in ("uid", "lineage", "image", "subject", "host"):
            checks.name(getattr(self, place), place)
        checks.between(self.score, 0.0, 1.0, "score")
        checks.time(self.at_ns, "at_ns")

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)


@dataclass(frozen=True, slots=True)
class Shadow:
    """How a shadow model's surprise compared with the active one's over one minute, sample
    by sample. ``both``, ``active_only``, ``shadow_only``: samples at or past the image's line
    by the forest alone; the sums are of surprises (nats: minus the logarithm of the rank
    among the training scores).
    """

    model: str
    samples: int = 0
    both: int = 0
    active_only: int = 0
    shadow_only: int = 0
    sum_active: float = 0.0
    sum_shadow: float = 0.0
    squares_active: float = 0.0
    squares_shadow: float = 0.0
    products: float = 0.0

    def joined(self, other: Shadow) -> Shadow:
        """Both minutes in one."""
        counts = [getattr(self, one.name) + getattr(other, one.name) for one in fields(Shadow)[1:]]
        return Shadow(self.model, *counts)

    def correlation(self) -> float | None:
        """Of both surprises (so of logarithms of ranks), -1 to 1; None where one is constant."""
        n = float(self.samples)
        spread_a = n * self.squares_active - self.sum_active**2
        spread_b = n * self.squares_shadow - self.sum_shadow**2
        if min(spread_a, spread_b) <= 1e-9 * n * n:
            return None
        joint = n * self.products - self.sum_active * self.sum_shadow
        return max(-1.0, min(1.0, joint / math.sqrt(spread_a * spread_b)))


@dataclass(frozen=True, slots=True)
class Summary:
    """One image in one role over one minute: what the live view and usage reports show.

    ``load`` is how close to the load line the nearest container came: 0 nothing unusual,
    1 at the line. ``totals`` are sums or means by feature name (see models/features.py).
    """

    scope: str
    lineage: str
    role: str
    image: str
    at_ns: int
    containers: int
    samples: int
    load: float
    learned: float
    totals: dict[str, float]
    model: str = ""
    shadow: Shadow | None = None

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict whose level differs from the one before it for the same subject.

    ``arrived_ns`` is the log's time of the telemetry that led to it; one that arrived late
    may alert, it never orders. ``replicas`` counts the lineage's live members at that time,
    for the guard on how large a share may be isolated. ``cold``: what the judge had learned of
    this partition is lost and not rebuilt; such a finding may alert, it never orders.
    """

    verdict: Verdict
    before: Level
    arrived_ns: int
    replicas: int = 1
    cold: bool = False

    def __post_init__(self) -> None:
        checks.time(self.arrived_ns, "arrived_ns")

    @property
    def rises(self) -> bool:
        """Whether it is an alarm: its subject rose to *corrupted* or beyond."""
        level = self.verdict.level
        return level.rank >= Level.CORRUPTED.rank and level.rank > self.before.rank


VERDICT_KINDS: dict[str, type[Verdict | Summary]] = {
    "verdict": Verdict,
    "summary": Summary,
}
"""On the verdicts topic, by the header ``plimsoll-kind``."""
