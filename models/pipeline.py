"""The whole path of a record: live, replay and evaluation all run this.

Groups are independent of each other, and a group's verdicts follow from its own records in
their order alone: however the log is cut into calls, they are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from models.detection import Detection
from models.errors import MalformedRecord
from models.records.telemetry import Batch, Sightings, Tick
from models.records.verdict import Finding, Summary, Verdict
from models.state import LineageState

MOST_AHEAD_NS: Final = 300 * 10**9


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record of one group; ``arrived_ns`` is the log's time for it. A Tick that arrives
    under a group concerns this group alone; see :func:`tick` for a partition's.
    """

    group: str
    record: Batch | Sightings | Tick
    arrived_ns: int


@dataclass(slots=True)
class Judgement:
    """What became of some arrivals. ``states`` holds the new values of the groups that
    changed; ``duplicates`` counts samples dropped for being at or before their member's last.
    """

    states: dict[str, LineageState] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Models:
    """Forests by the event time from which each counts; none yet is fine."""


@dataclass(frozen=True, slots=True)
class Core:
    """What judging needs besides states and records; never changes under a call."""

    detection: Detection = field(default_factory=Detection)
    models: Models = field(default_factory=Models)


def check_arrival(record: Batch | Sightings | Tick, arrived_ns: int) -> None:
    """Refuse what claims to be from the future; call it before judging.

    Raises: MalformedRecord("misdated") beyond five minutes after its arrival.
    """
    ahead_ns = record.at_ns - arrived_ns
    if ahead_ns > MOST_AHEAD_NS:
        problem = f"{ahead_ns / 1e9:.0f} s after its arrival: set the clock of that host right"
        raise MalformedRecord("misdated", problem, "at_ns")


def judge(states: Mapping[str, LineageState], arrivals: Sequence[Arrival], core: Core) -> Judgement:
    """Judge what has arrived together; ``states`` lacks the groups that are new.

    No state that was passed in changes.
    """
    judged = Judgement()
    for arrival in arrivals:
        group = arrival.group
        before = judged.states.get(group) or states.get(group) or LineageState()
        judged.states[group] = LineageState(core.detection.line_least and 0, dict(before.last_ns))
    return judged


def tick(states: Mapping[str, LineageState], tick: Tick, core: Core) -> Judgement:
    """Let time pass for all groups of a partition: pass those that the caller holds (of which
    only those with ``due_ns <= tick.at_ns`` can change), get those that changed.
    """
    due = [group for group, state in states.items() if state.due_ns <= tick.at_ns]
    return judge(states, [Arrival(group, tick, tick.at_ns) for group in due], core)
