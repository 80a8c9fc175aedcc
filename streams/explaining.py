"""Why a container was found: from what was said, and by judging its lineage once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from models.contract import partition_of
from models.errors import ConfigurationError
from models.pipeline import Core
from models.portrait import Portrait, portrait
from models.records.telemetry import Tick
from models.records.verdict import Verdict
from models.replay import Recorded, Replay
from streams.stores.window import TelemetryLog

_LONGEST_NS: Final = 60 * 10**9
"""So much arrival time after a verdict's event time its record may still come."""


@dataclass(frozen=True, slots=True)
class Course:
    """All verdicts on one container that were found, oldest first."""

    verdicts: tuple[Verdict, ...]

    @property
    def worst(self) -> Verdict:
        """The verdict to explain: of the highest level, then score; of equals the first."""
        return max(self.verdicts, key=lambda one: (one.level.rank, one.score, -one.at_ns))


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


def looked_at(
    source: TelemetryLog, core: Core, verdict: Verdict, partitions: int
) -> Portrait | None:
    """The container as it was judged: its lineage replayed up to that verdict.

    None when the log no longer leads there.
    """
    replay = Replay(core, at_once=1)
    place = partition_of(verdict.group.encode(), partitions)
    records = source.records(0, verdict.at_ns + _LONGEST_NS, [place])
    for judged in replay.run(_of_group(records, verdict.group)):
        if any(one.uid == verdict.uid for one in judged.verdicts):
            state = judged.states[verdict.group]
            forest = core.models.active(verdict.at_ns)
            return portrait(state, verdict.subject, forest, core.detection)
    return None


def _of_group(records: Iterable[Recorded], group: str) -> Iterator[Recorded]:
    for one in records:
        if isinstance(one.record, Tick) or one.record.group == group:
            yield one
