"""What the demo needs of a fleet, and how a story is judged once it has been told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from models.records.order import Action, Outcome, Status
from models.records.verdict import Finding, Level
from streams.demo.notes import Notes

NOTHING = "none"


class Story(Protocol):
    """One script, or the benign twin of one."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def twin(self) -> bool: ...
    @property
    def lineage(self) -> str: ...
    @property
    def expected(self) -> Level: ...
    @property
    def action(self) -> Action | None: ...
    @property
    def starts_s(self) -> float: ...


class Running(Protocol):
    """A story under way; ``victims`` are the subjects that it befell."""

    story: Any
    began_ns: int
    victims: list[str]

    @property
    def watched_until_ns(self) -> int: ...


class Fleet(Protocol):
    """The simulated fleet, loaded by its entry point: what it is, is its own business."""

    stories: Sequence[Story]

    def now_ns(self) -> int: ...
    def step(self, seconds: float) -> list[Frame]: ...
    def begin(self, name: str) -> Running: ...
    def containers(self) -> Sequence[InventoryEntry]: ...


@dataclass(frozen=True, slots=True)
class Told:
    """A story's line in the closing table. Seconds are of event time, from its begin."""

    story: str
    title: str
    twin: bool
    expected: str
    level: str
    action: str
    seen_after_s: float | None
    verified_after_s: float | None
    right: bool
    incident: str = ""

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def told(running: Running, notes: Notes) -> Told:
    """How a story ended, by what the topics say."""
    story: Story = running.story
    with notes.lock:
        findings = [one for one in notes.findings if _concerns(one, running)]
        subjects = {one.verdict.subject for one in findings} | set(running.victims)
        acts = [one for one in notes.outcomes if one.subject in subjects and _acted(one)]
    level = max(
        (one.verdict.level for one in findings), key=lambda one: one.rank, default=Level.QUIET
    )
    first = _first(story, findings)
    act = next((one for one in acts if one.verified), acts[0] if acts else None)
    verified = act is not None and bool(act.verified)
    return Told(
        story=story.name, title=story.title, twin=story.twin,
        expected=_expected(story), level=level.value,
        action=act.action.value if act is not None else NOTHING,
        seen_after_s=_after_s(running, first.verdict.at_ns if first else None),
        verified_after_s=_after_s(running, act.at_ns if act is not None and verified else None),
        right=_right(story, level, act),
        incident=act.incident if act is not None else "",
    )  # fmt: skip  # as the table has them


def _concerns(finding: Finding, running: Running) -> bool:
    """Of the lineage and within the time; for a story, on a victim."""
    verdict = finding.verdict
    if not running.began_ns <= verdict.at_ns <= running.watched_until_ns:
        return False
    if running.story.twin:
        return bool(verdict.lineage == running.story.lineage)
    return verdict.subject in running.victims


def _acted(outcome: Outcome) -> bool:
    return outcome.status is Status.DONE and outcome.action not in (Action.ANNOTATE, Action.EXTEND)


def _first(story: Story, findings: Iterable[Finding]) -> Finding | None:
    """The first finding at the level that was expected; for a twin, at any above watch."""
    wanted = story.expected if not story.twin else Level.CORRUPTED
    reached = [one for one in findings if one.verdict.level.rank >= wanted.rank]
    return min(reached, key=lambda one: one.verdict.at_ns, default=None)


def _expected(story: Story) -> str:
    return f"{story.expected.value}, {story.action.value}" if story.action else "left alone"


def _right(story: Story, level: Level, act: Outcome | None) -> bool:
    if story.twin:
        return level.rank < Level.CORRUPTED.rank and act is None
    done = act is not None and act.action is story.action and bool(act.verified)
    return level is story.expected and done


def _after_s(running: Running, at_ns: int | None) -> float | None:
    return None if at_ns is None else round((at_ns - running.began_ns) / 1e9, 1)
