"""What gather writes to the judge: batches, sightings and ticks, one order for a lineage."""

from __future__ import annotations

from dataclasses import dataclass

from models.contract import telemetry_key
from models.errors import MalformedRecord
from models.records import checks
from models.records.facts import Observation
from models.records.lesson import LESSON, Lesson
from models.records.samples import Samples


@dataclass(frozen=True, slots=True)
class Member:
    """Who a subject of a batch is. Limits are 0 where there is none; ``labels`` hold the
    few that decide policy.
    """

    subject: str
    host: str
    image: str
    name: str = ""
    started_ns: int = 0
    memory_limit_bytes: int = 0
    cpu_limit_cores: float = 0.0

    def __post_init__(self) -> None:
        for field in ("subject", "host", "image"):
            checks.name(getattr(self, field), field)


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one scope, lineage and role over one interval, from any number of hosts.

    ``members[k]`` tells of ``samples.subjects[k]``.
    """

    scope: str
    lineage: str
    role: str
    members: tuple[Member, ...]
    samples: Samples
    interval_s: float

    def __post_init__(self) -> None:
        _check_group(self.scope, self.lineage, self.role)
        checks.between(self.interval_s, 1e-3, 86_400, "interval_s")
        if not len(self.samples):
            raise MalformedRecord("empty", "a batch without a sample", "samples")
        if tuple(member.subject for member in self.members) != self.samples.subjects:
            raise MalformedRecord("mistyped", "must tell of each subject in turn", "members")

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)

    @property
    def at_ns(self) -> int:
        """The newest sample's time."""
        return int(self.samples.times_ns.max())


@dataclass(frozen=True, slots=True)
class Sightings:
    """Observations of one scope, lineage and role, each about one of ``members``."""

    scope: str
    lineage: str
    role: str
    members: tuple[Member, ...]
    observations: tuple[Observation, ...]

    def __post_init__(self) -> None:
        _check_group(self.scope, self.lineage, self.role)
        if not self.observations:
            raise MalformedRecord("empty", "not a single observation", "observations")
        known = {member.subject for member in self.members}
        for at, observation in enumerate(self.observations):
            if observation.subject not in known:
                place = f"observations[{at}].subject"
                raise MalformedRecord("out-of-range", "is none of the members", place)

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)

    @property
    def at_ns(self) -> int:
        return max(observation.at_ns for observation in self.observations)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time, as a record: nothing of what gather had at ``at_ns`` or before is still to come
    from it (late spools excepted).
    """

    at_ns: int

    def __post_init__(self) -> None:
        checks.time(self.at_ns, "at_ns")


def _check_group(scope: str, lineage: str, role: str) -> None:
    checks.scope(scope)
    checks.name(lineage, "lineage")
    checks.optional_name(role, "role")


KINDS: dict[str, type[Batch | Sightings | Tick]] = {
    "batch": Batch,
    "sightings": Sightings,
    "tick": Tick,
}
"""By the header ``plimsoll-kind``: what gather writes. A lesson comes signed (models/admission)."""

KIND_OF: dict[type[Batch | Sightings | Tick | Lesson], str] = {
    **{kind: name for name, kind in KINDS.items()},
    Lesson: LESSON,
}
Telemetry = Batch | Sightings | Tick | Lesson
