"""What is known of a model file, and from when on it is used: signed words on one topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from models.errors import MalformedRecord
from models.records import checks

LEAD_NS: Final = 10 * 10**9
"""A stage begins at least so long after it was said: every worker knows of it by then."""


class Stage(StrEnum):
    CANDIDATE = "candidate"  # known, used by nobody
    SHADOW = "shadow"  # scores beside the active one, decides nothing
    ACTIVE = "active"  # decides
    RETIRED = "retired"  # used by nobody any more


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model did on a later part of its window, which it was not trained on.

    ``surprise``: quantile → nats (1 is the mean of training); ``alarms``: findings that rose
    to *corrupted* or beyond, by level; ``alarms_without``: the same without any forest.
    ``drift``: by feature, how far its deviations have moved since training (models/drift.py).
    ``rarer``: of so many ``quiet`` samples, how many it said to be rarer than one in N; of a
    forest for one lineage, ``rarer_fleet`` is what the fleet's of that window said of the same
    (models/calibration.py).
    """

    from_ns: int
    until_ns: int
    samples: int
    surprise: dict[str, float] = field(default_factory=dict)
    alarms: dict[str, int] = field(default_factory=dict)
    alarms_without: dict[str, int] = field(default_factory=dict)
    alarms_by_image: dict[str, int] = field(default_factory=dict)
    drift: dict[str, float] = field(default_factory=dict)
    quiet: int = 0
    rarer: dict[str, int] = field(default_factory=dict)
    rarer_fleet: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model of one scope: its card. ``sha256`` is of the file's bytes, which lie in the
    model store under that name; ``features`` are the names of the forest's inputs, in order.
    ``offsets``: by partition, first and end of the telemetry that it has seen. ``lineage``: the
    one that it was trained for, whose versions it serves; empty: the whole fleet.

    What is used from when on is said by a :class:`Staging`; ``stage`` is what the trainer
    said with it, and a model announced as active counts for events from ``active_from_ns``.
    """

    uid: str
    scope: str
    stage: Stage
    algorithm: str
    features: tuple[str, ...]
    sha256: str
    size_bytes: int
    trained_ns: int
    active_from_ns: int
    rows: int = 0
    from_ns: int = 0
    until_ns: int = 0
    detail: dict[str, str] | None = None
    offsets: dict[str, tuple[int, ...]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    lineage: str = ""

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        checks.name(self.uid, "uid", 128)
        checks.optional_name(self.lineage, "lineage")
        _no_slash(self.uid, "uid")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a past window would have come to with a model and a policy (`plimsoll replay`).

    ``policy`` is the SHA-256 of the policy file, empty for the defaults; ``model`` is empty
    where the models were those of the time. ``isolations`` counts what takes a container out
    of service; more than ``most_isolations`` is a failure.
    """

    uid: str
    scope: str
    model: str
    policy: str
    alarms_per_day: float
    from_ns: int
    until_ns: int
    at_ns: int
    by: str
    samples: int
    isolations: int
    most_isolations: int
    alarms: dict[str, int] = field(default_factory=dict)
    orders: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        for place in ("uid", "by"):
            checks.name(getattr(self, place), place, 128)
        checks.optional_name(self.model, "model", 128)

    @property
    def passed(self) -> bool:
        return self.samples > 0 and self.isolations <= self.most_isolations


@dataclass(frozen=True, slots=True)
class Staging:
    """From the event time ``from_ns`` on, ``model`` is in this stage; ``by`` is the name of
    the key that signs it. What becomes active has a rehearsal that it passed, or a reason.
    """

    uid: str
    scope: str
    model: str
    stage: Stage
    from_ns: int
    said_ns: int
    by: str
    because: str = ""
    rehearsal: Rehearsal | None = None

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        for place in ("uid", "model", "by"):
            checks.name(getattr(self, place), place, 128)
        _no_slash(self.uid, "uid")
        _no_slash(self.model, "model")
        checks.time(self.from_ns, "from_ns")
        if self.from_ns < self.said_ns + LEAD_NS:
            problem = f"less than {LEAD_NS // 10**9} s after it was said: workers would disagree"
            raise MalformedRecord("misdated", problem, "from_ns")
        if self.stage is Stage.ACTIVE and not self.because:
            self._demand_rehearsal()

    def _demand_rehearsal(self) -> None:
        shown = self.rehearsal
        if shown is None or not shown.passed or shown.model != self.model:
            problem = "active without a passed rehearsal of this model, and without a reason"
            raise MalformedRecord("missing", problem, "rehearsal")


def _no_slash(value: str, place: str) -> None:
    if "/" in value:
        raise MalformedRecord("out-of-range", "holds a slash", place)


MODEL_KINDS: Final[Mapping[str, Any]] = {
    "manifest": Manifest,
    "staging": Staging,
    "rehearsal": Rehearsal,
}
"""On the models topic, by the header ``plimsoll-kind``; without one it is a manifest."""
