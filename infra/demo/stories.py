"""What is told on the real engine: three stories and a twin, each on a service of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Final

from infra.demo.containers import Actor, Troupe, repository
from models.records.order import Action
from models.records.verdict import Level

SECOND_NS: Final = 10**9


def lineage(run: str, service: str) -> str:
    """As the collector names an image that was built here and has no digest."""
    return f"local/{repository(run, service)}"


@dataclass(frozen=True, slots=True)
class Story:
    """A script for ``service``: ``direction`` goes to its ``victims`` (siblings' numbers) at
    ``starts_s`` and is watched for ``lasts_s``. No action: to be left alone.
    """

    name: str
    title: str
    service: str
    direction: str
    victims: tuple[int, ...]
    expected: Level
    action: Action | None
    starts_s: float
    lasts_s: float
    run: str = ""

    @property
    def twin(self) -> bool:
        return self.action is None

    @property
    def lineage(self) -> str:
        return lineage(self.run, self.service)


STORIES: Final = (
    Story(
        "exfiltration", "2 MB/s to a host that it never talked to",
        "orders", "exfiltrate", (1,), Level.COMPROMISED, Action.ISOLATE, 0.0, 90.0,
    ),
    Story(
        "dropped-program", "a program that its image does not have, and runs",
        "web", "drop", (2,), Level.COMPROMISED, Action.ISOLATE, 3.0, 90.0,
    ),
    Story(
        "memory-leak", "2 MB/s of memory that nobody frees",
        "notifier", "leak", (3,), Level.CORRUPTED, Action.REDEPLOY, 6.0, 110.0,
    ),
    Story(
        "load-spike", "all siblings work more and send more to their usual partner",
        "search", "spike", (1, 2, 3), Level.QUIET, None, 9.0, 60.0,
    ),
)  # fmt: skip  # a table


@dataclass(slots=True)
class Running:
    """A story under way; ``victims`` are the subjects that it befell."""

    story: Story
    actors: tuple[Actor, ...]
    began_ns: int
    victims: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.victims = [actor.subject for actor in self.actors]

    @property
    def watched_until_ns(self) -> int:
        return self.began_ns + int(self.story.lasts_s * SECOND_NS)


def begin(story: Story, troupe: Troupe) -> Running:
    """Give the direction. From now on the containers are on their own."""
    actors = tuple(troupe.actor(story.service, number) for number in story.victims)
    began_ns = time.time_ns()
    for actor in actors:
        troupe.direct(actor, story.direction)
    return Running(replace(story, run=troupe.run), actors, began_ns)
