"""The simulated fleet, gather's regrouping and the core in one thread, without Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from models.detectors.forest import Forest
from models.features import NAMES
from models.lineage import LineageState
from models.pipeline import Arrival, Core, Judgement, Models, deviations, judge, tick
from models.records.frame import Frame
from models.records.order import Action
from models.records.telemetry import Batch, Tick
from models.records.verdict import Finding, Level
from models.training import fit
from producers.gather.inventory import Inventory
from producers.gather.ledger import Lot
from producers.gather.regroup import Regrouper
from producers.sources.simulated import STORIES, Fleet, Running

STEP_S: Final = 5.0
WARM_UP_S: Final = 1_800.0
TRAINED_FROM_S: Final = 900.0
START_NS: Final = 1_790_000_000 * 10**9
ANSWERS: Final = {Level.COMPROMISED: Action.ISOLATE, Level.CORRUPTED: Action.REDEPLOY}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a story came out: the highest level seen, and what was done about it."""

    story: str
    twin: bool
    level: Level
    action: Action | None
    seen_after_s: float | None
    right: bool
    why: str


@dataclass
class Rehearsal:
    """Plays all stories to the core and answers as a governor that enforces would."""

    seed: int
    fleet: Fleet = field(init=False)
    core: Core = field(default_factory=Core)
    states: dict[str, LineageState] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    acted: dict[str, Action] = field(default_factory=dict)
    rows: list[np.ndarray] = field(default_factory=list)
    answers: bool = True

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.seed, START_NS)
        self._regroup = Regrouper(Inventory(), 1_000, 10 * 10**9)

    def play(self, names: Iterable[str] = (), *, forest: bool = True) -> list[Ending]:
        """Warm up, train, tell the stories; empty ``names`` means all of them."""
        self._until(TRAINED_FROM_S, lambda _batch: None)
        self._until(WARM_UP_S, self._collect if forest else lambda _batch: None)
        if forest:
            trees = fit(np.vstack(self.rows), NAMES, seed=self.seed, uid="rehearsal")
            self.core = Core(Models(((self.fleet.now_ns(), Forest(trees)),)))
        wanted = set(names) or {story.name for story in STORIES}
        due = sorted((s for s in STORIES if s.name in wanted), key=lambda story: story.starts_s)
        began_ns, running = self.fleet.now_ns(), list[Running]()
        while due or any(self.fleet.now_ns() < one.watched_until_ns for one in running):
            while due and self.fleet.now_ns() >= began_ns + due[0].starts_s * 1e9:
                running.append(self.fleet.begin(due.pop(0).name))
            self._step(lambda _batch: None)
        return [self._ending(one) for one in running]

    def _until(self, seconds: float, note: Callable[[Batch], None]) -> None:
        while self.fleet.now_ns() < START_NS + seconds * 1e9:
            self._step(note)

    def _collect(self, batch: Batch) -> None:
        self.rows.append(deviations(self.states, batch, self.core))

    def _step(self, note: Callable[[Batch], None]) -> None:
        arrivals = self._arrivals(self.fleet.step(STEP_S))
        for arrival in arrivals:
            if isinstance(arrival.record, Batch):
                note(arrival.record)
        self._take(judge(self.states, arrivals, self.core))
        self._take(tick(self.states, Tick(self.fleet.now_ns()), self.core))

    def _arrivals(self, frames: Iterable[Frame]) -> list[Arrival]:
        now_ns = self.fleet.now_ns()
        for frame in frames:
            for entry in frame.inventory:
                self._regroup.learn(entry)
            self._regroup.add(frame, now_ns, Lot())
        made, _ = self._regroup.flush()
        return [Arrival(one.key, one.record, now_ns) for one in made]

    def _take(self, judged: Judgement) -> None:
        self.states |= judged.states
        self.findings += judged.findings
        for finding in judged.findings:
            action = ANSWERS.get(finding.verdict.level)
            if action is not None and self.answers:
                self._answer(finding.verdict.subject, action)

    def _answer(self, subject: str, action: Action) -> None:
        found = self.fleet.inspect(subject)
        if found is None or self.acted.get(subject) in (Action.ISOLATE, action):
            return
        if action is Action.ISOLATE:
            self.fleet.disconnect(subject)
        else:
            self.fleet.redeploy(subject)
        self.acted[subject] = action

    def _ending(self, running: Running) -> Ending:
        story = running.story
        mine = [one for one in self.findings if _concerns(one, running)]
        level = max((one.verdict.level for one in mine), key=_rank, default=Level.QUIET)
        subjects = {one.verdict.subject for one in mine} | set(running.victims)
        acts = {self.acted[one] for one in subjects if one in self.acted}
        action = next(iter(acts), None)
        if story.twin:
            right = _rank(level) < _rank(Level.CORRUPTED) and not acts
        else:
            right = level is story.expected and acts == {story.action}
        wanted = Level.CORRUPTED if story.twin else story.expected
        reached = [one for one in mine if _rank(one.verdict.level) >= _rank(wanted)]
        first = min(reached, key=lambda one: one.verdict.at_ns, default=None)
        seen_s = (first.verdict.at_ns - running.began_ns) / 1e9 if first else None
        why = "; ".join(reason.text for reason in first.verdict.reasons) if first else ""
        return Ending(story.name, story.twin, level, action, seen_s, right, why)


def _concerns(finding: Finding, running: Running) -> bool:
    verdict = finding.verdict
    if not running.began_ns <= verdict.at_ns <= running.watched_until_ns:
        return False
    if running.story.twin:
        return verdict.lineage == running.story.lineage
    return verdict.subject in running.victims


def _rank(level: Level) -> int:
    return level.rank
