"""The simulated fleet, gather's regrouping and the live judge's core in one thread, no Kafka."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np

from models.detectors.forest import Forest
from models.features import NAMES
from models.lineage import LineageState
from models.pipeline import Arrival, Core, Judgement, Models, deviations, judge, tick
from models.policy import Policy
from models.records.frame import Frame
from models.records.order import Action
from models.records.telemetry import Batch, Tick
from models.records.verdict import Finding, Level
from models.training import fit
from producers.gather.inventory import Inventory
from producers.gather.ledger import Lot
from producers.gather.regroup import Regrouper
from producers.sources.simulated import Fleet, Running

START_NS: Final = 1_790_000_000 * 10**9
POLICY: Final = Policy()


@dataclass
class Play:
    """A fleet and what the core makes of it, step by step. Where ``answers``, what the
    default policy's rules ask for is done at once, without its guards.
    """

    fleet: Fleet
    step_s: float = 5.0
    answers: bool = True
    core: Core = field(default_factory=Core)
    states: dict[str, LineageState] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    acted: dict[str, Action] = field(default_factory=dict)
    _regroup: Regrouper = field(init=False)

    def __post_init__(self) -> None:
        self._regroup = Regrouper(Inventory(), 1_000, 10 * 10**9)

    def step(self, note: Callable[[Batch], None] = lambda _batch: None) -> None:
        """One interval; ``note`` sees each batch before it is judged."""
        arrivals = self._arrivals(self.fleet.step(self.step_s))
        for arrival in arrivals:
            if isinstance(arrival.record, Batch):
                note(arrival.record)
        self._take(judge(self.states, arrivals, self.core))
        self._take(tick(self.states, Tick(self.fleet.now_ns()), self.core))

    def run(self, seconds: float) -> None:
        until_ns = self.fleet.now_ns() + seconds * 1e9
        while self.fleet.now_ns() < until_ns:
            self.step()

    def train(self, seconds: float, seed: int, uid: str) -> None:
        """Let time pass; from then on a forest of what was seen in it judges too."""
        rows: list[np.ndarray] = []
        until_ns = self.fleet.now_ns() + seconds * 1e9
        while self.fleet.now_ns() < until_ns:
            self.step(lambda batch: rows.append(deviations(self.states, batch, self.core)))
        trees = fit(np.vstack(rows), NAMES, seed=seed, uid=uid)
        self.core = Core(Models(((self.fleet.now_ns(), Forest(trees)),)))

    def branch(self) -> Self:
        """Another play that goes on from here; this one knows nothing of it."""
        lock = threading.RLock()
        shared: dict[int, Any] = {id(self.fleet.lock): lock, id(self.core): self.core}
        return copy.deepcopy(self, shared)

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
            action = POLICY.action_for(finding.verdict)
            if action is not Action.ANNOTATE and finding.verdict.level is not Level.QUIET:
                self._answer(finding.verdict.subject, action)

    def _answer(self, subject: str, action: Action) -> None:
        found = self.fleet.inspect(subject)
        if found is None or self.acted.get(subject) in (Action.ISOLATE, action):
            return
        if self.answers:
            if action is Action.ISOLATE:
                self.fleet.disconnect(subject)
            else:
                self.fleet.redeploy(subject)
        self.acted[subject] = action


def concerning(running: Running, findings: Iterable[Finding]) -> list[Finding]:
    """Those of a story: its victims', a twin's whole lineage's, while it is watched."""
    return [
        finding
        for finding in findings
        if running.began_ns <= finding.verdict.at_ns <= running.watched_until_ns
        and (
            finding.verdict.lineage == running.story.lineage
            if running.story.twin
            else finding.verdict.subject in running.victims
        )
    ]


def highest(findings: Iterable[Finding]) -> Level:
    """The highest level that any of them told."""
    return max((one.verdict.level for one in findings), key=_rank, default=Level.QUIET)


def _rank(level: Level) -> int:
    return level.rank
