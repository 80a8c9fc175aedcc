"""Why a container was found: from what was said, and by judging its lineage once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from models.contract import partition_of
from models.errors import ConfigurationError
from models.lineage import LineageState
from models.pipeline import Core
from models.portrait import Portrait, portrait
from models.records.telemetry import Tick
from models.records.verdict import Verdict
from models.replay import Recorded, Replay, Source

_LONGEST_NS: Final = 60 * 10**9
"""So much arrival time after a verdict's event time its record may still come."""


@dataclass(frozen=True, slots=True)
class Course:
    """All verdicts on one container that were found, oldest first."""

    verdicts: tuple[Verdict, ...]

    @property
    def worst(self) -> Verdict:
        """The strongest verdict: of the highest level, then score; of equals the first."""
        return max(self.verdicts, key=lambda one: (one.level.rank, one.score, -one.at_ns))

    @property
    def turning(self) -> Verdict:
        """The verdict to explain, the first of the highest level: what was seen before anybody
        answered.
        """
        return max(self.verdicts, key=lambda one: (one.level.rank, -one.at_ns))


def course_of(verdicts: Iterable[Verdict], said: str) -> Course:
    """The verdicts on the one container that goes by this name or beginning of its id.

    Raises: ConfigurationError when there is none, or more than one.
    """
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.name == said or verdict.subject.startswith(said):
            found.setdefault(verdict.subject, []).append(verdict)
    if len(found) == 1:
        (course,) = found.values()
        by_uid = {one.uid: one for one in course}
        return Course(tuple(sorted(by_uid.values(), key=lambda one: one.at_ns)))
    what = "no verdict on a container" if not found else f"{len(found)} containers"
    raise ConfigurationError(
        f"{what} named {said!r} or with an id that begins so: `plimsoll incident list --all` "
        "tells incidents; --from looks further back"
    )


def looked_at(source: Source, core: Core, verdict: Verdict) -> Portrait | None:
    """The container as it was judged: its lineage replayed up to that verdict.

    None when the log no longer leads there.
    """
    replay = Replay(core, at_once=1)
    records = _of_group(source, verdict.group, verdict.at_ns + _LONGEST_NS)
    for judged in replay.run(records):
        if any(one.uid == verdict.uid for one in judged.verdicts):
            state = judged.states[verdict.group]
            forest = core.models.active(verdict.at_ns, verdict.lineage)
            return portrait(state, verdict.subject, forest, core.detection)
    return None


def known_of(source: Source, core: Core, group: str, until_ns: int) -> LineageState:
    """What is known of a lineage in one role by then: judged from the log's beginning.

    Raises: ConfigurationError when nothing of it is there.
    """
    replay = Replay(core)
    for _ in replay.run(_of_group(source, group, until_ns)):
        pass
    for states in replay.states.values():
        if group in states:
            return states[group]
    raise ConfigurationError(
        f"{group}: no telemetry of it up to then; a group is SCOPE/LINEAGE/ROLE, as the "
        "archive's table samples has them"
    )


def _of_group(source: Source, group: str, until_ns: int) -> Iterator[Recorded]:
    place = partition_of(group.encode(), source.partitions())
    for one in source.records(0, until_ns, [place]):
        if isinstance(one.record, Tick) or one.record.group == group:
            yield one
