"""The simulated fleet, gather's regrouping and the core in one thread, without Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from infra.bench.playing import START_NS, Play, concerning, highest
from models.records.order import Action
from models.records.verdict import Level
from producers.sources.simulated import STORIES, Fleet, Running

WARM_UP_S: Final = 900.0
TRAINING_S: Final = 900.0


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
    stage: Play = field(init=False)

    def __post_init__(self) -> None:
        self.stage = Play(Fleet(self.seed, START_NS))

    def play(self, names: Iterable[str] = (), *, forest: bool = True) -> list[Ending]:
        """Warm up, train, tell the stories; empty ``names`` means all of them."""
        stage, fleet = self.stage, self.stage.fleet
        stage.run(WARM_UP_S)
        if forest:
            stage.train(TRAINING_S, self.seed, "rehearsal")
        else:
            stage.run(TRAINING_S)
        wanted = set(names) or {story.name for story in STORIES}
        due = sorted((s for s in STORIES if s.name in wanted), key=lambda story: story.starts_s)
        began_ns, running = fleet.now_ns(), list[Running]()
        while due or any(fleet.now_ns() < one.watched_until_ns for one in running):
            while due and fleet.now_ns() >= began_ns + due[0].starts_s * 1e9:
                running.append(fleet.begin(due.pop(0).name))
            stage.step()
        return [self._ending(one) for one in running]

    def _ending(self, running: Running) -> Ending:
        story, acted = running.story, self.stage.acted
        mine = concerning(running, self.stage.findings)
        level = highest(mine)
        subjects = {one.verdict.subject for one in mine} | set(running.victims)
        acts = {acted[one] for one in subjects if one in acted}
        action = next(iter(acts), None)
        if story.twin:
            right = level.rank < Level.CORRUPTED.rank and not acts
        else:
            right = level is story.expected and acts == {story.action}
        wanted = Level.CORRUPTED if story.twin else story.expected
        reached = [one for one in mine if one.verdict.level.rank >= wanted.rank]
        first = min(reached, key=lambda one: one.verdict.at_ns, default=None)
        seen_s = (first.verdict.at_ns - running.began_ns) / 1e9 if first else None
        why = "; ".join(reason.text for reason in first.verdict.reasons) if first else ""
        return Ending(story.name, story.twin, level, action, seen_s, right, why)
