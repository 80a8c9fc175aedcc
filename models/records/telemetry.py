"""What gather writes to the judge: batches, sightings and ticks, one order for a lineage."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from models.contract import telemetry_key
from models.errors import MalformedRecord
from models.records import binary, checks
from models.records.codec import decode_line, encode, encode_line
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
        if tuple([member.subject for member in self.members]) != self.samples.subjects:
            raise MalformedRecord("mistyped", "must tell of each subject in turn", "members")

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)

    @property
    def at_ns(self) -> int:
        """The newest sample's time."""
        return self.samples.extent_ns[1]

    def to_binary(self) -> bytes:
        """The other form of a batch: a fifth of the work to read, to the bit the same numbers."""
        samples = self.samples
        head = _Head(self.scope, self.lineage, self.role, self.interval_s, samples.features)
        lines = [encode_line(head), *map(encode_line, self.members)]
        return binary.write(binary.Table(lines, samples.index, samples.times_ns, samples.columns))

    @classmethod
    def from_binary(cls, data: bytes) -> Batch:
        """Raises: MalformedRecord, and nothing else."""
        table = binary.read(data)
        head = _head(table.lines[0])
        members = _members(table.lines[1:])
        subjects = tuple([member.subject for member in members])
        try:
            samples = Samples(head.features, subjects, table.index, table.times_ns, table.columns)
        except MalformedRecord as problem:
            raise problem.under("samples") from None
        return cls(head.scope, head.lineage, head.role, members, samples, head.interval_s)


@dataclass(frozen=True, slots=True)
class _Head:
    """The first line of the binary form."""

    scope: str
    lineage: str
    role: str
    interval_s: float
    features: tuple[str, ...]


HEADS_KEPT: Final = 8_192
MEMBERS_KEPT: Final = 32_768
LONGEST_KEPT: Final = 1_024
"""Lines come again with every batch of an image, and are read once; so many are remembered,
and none that only a hostile writer makes so long: some 20 MB, at most 100.
"""


def _read_head(line: bytes) -> _Head:
    return decode_line(_Head, line)


def _read_member(line: bytes) -> Member:
    return decode_line(Member, line)


_known_head = functools.lru_cache(HEADS_KEPT)(_read_head)
_known_member = functools.lru_cache(MEMBERS_KEPT)(_read_member)


def _head(line: bytes) -> _Head:
    return (_known_head if len(line) <= LONGEST_KEPT else _read_head)(line)


def _members(lines: Sequence[bytes]) -> tuple[Member, ...]:
    short = max(map(len, lines), default=0) <= LONGEST_KEPT
    read = _known_member if short else _read_member
    try:
        return tuple(map(read, lines))
    except MalformedRecord:  # once more, for the place
        return tuple([_placed(read, at, line) for at, line in enumerate(lines)])


def _placed(read: Callable[[bytes], Member], at: int, line: bytes) -> Member:
    try:
        return read(line)
    except MalformedRecord as problem:
        raise problem.under(f"members[{at}]") from problem.__cause__


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


@functools.lru_cache(8_192)  # what is refused is not remembered
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

Encoding = Literal["json", "binary"]


def written(record: Batch | Sightings | Tick, encoding: Encoding) -> bytes:
    """A record as it lies in the telemetry topic; only batches have a binary form."""
    if encoding == "binary" and isinstance(record, Batch):
        return record.to_binary()
    return encode(record)
