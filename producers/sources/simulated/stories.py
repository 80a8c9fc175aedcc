"""The stories that the simulated fleet can tell: attacks and faults, each with a benign twin
that looks like it.

A story is right when its victim reached the expected level and the expected action was
done and verified. A twin is right when no container of its lineage was called corrupted,
suspect or compromised from its begin until its margin is over, and nothing was done to any.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from models.records.order import Action
from models.records.verdict import Level
from producers.sources.simulated.chance import Chance, chance
from producers.sources.simulated.images import CATALOGUE
from producers.sources.simulated.plots import (
    CacheFills,
    ChangedBoot,
    Deploy,
    DroppedProgram,
    Exfiltration,
    LoadSpike,
    MemoryLeak,
    Miner,
    PartnerAddress,
    Plot,
    PortScan,
    Restart,
    ScaleOut,
)

if TYPE_CHECKING:
    from producers.sources.simulated.fleet import Fleet

NS: Final = 10**9
LINEAGE_OF: Final = {profile.name: profile.lineage for profile in CATALOGUE}


@dataclass(frozen=True, slots=True)
class Story:
    """One script. ``starts_s`` is when it begins once the fleet is warm, so that all
    together keep apart; ``margin_s`` is how long after its end a twin is still watched.
    """

    name: str
    title: str
    part: str
    plot: Plot
    starts_s: float
    lasts_s: float
    expected: Level = Level.QUIET
    action: Action | None = None
    twin_of: str = ""
    margin_s: float = 60.0

    @property
    def twin(self) -> bool:
        return bool(self.twin_of)

    @property
    def lineage(self) -> str:
        return LINEAGE_OF[self.part]


@dataclass(slots=True)
class Running:
    """A story that was begun. ``victims`` are the containers that it befell so far, by
    subject; empty for a twin.
    """

    story: Story
    began_ns: int
    seed: int
    victims: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    rng: Chance = field(init=False)
    ended: bool = False

    def __post_init__(self) -> None:
        self.rng = chance(self.seed, self.story.name, self.began_ns)

    @property
    def ends_ns(self) -> int:
        return self.began_ns + round(self.story.lasts_s * NS)

    @property
    def watched_until_ns(self) -> int:
        return self.ends_ns + round(self.story.margin_s * NS)

    def elapsed_s(self, now_ns: int) -> float:
        return (now_ns - self.began_ns) / NS

    def step(self, fleet: Fleet) -> None:
        """Before the interval's traffic."""
        if self.ended:
            return
        if fleet.now_ns() > self.ends_ns:
            self.story.plot.end(fleet, self)
            self.ended = True
        else:
            self.story.plot.step(fleet, self)

    def disturb(self, fleet: Fleet, seconds: float) -> None:
        """After the interval's own traffic: what comes on top of it."""
        if not self.ended:
            self.story.plot.disturb(fleet, self, seconds)


STORIES: Final[tuple[Story, ...]] = (
    Story(
        "exfiltration", "a database sends its contents to a new host",
        "orders-db", Exfiltration(), 30, 150, Level.COMPROMISED, Action.ISOLATE,
    ),
    Story(
        "partner-address", "the card network answers from a new address",
        "payments", PartnerAddress(), 60, 180, twin_of="exfiltration",
    ),
    Story(
        "miner", "a miner at a third of the usual limit, and its pool",
        "thumbnails", Miner(), 90, 240, Level.COMPROMISED, Action.ISOLATE,
    ),
    Story(
        "load-spike", "three times the usual searches, on all of them",
        "search", LoadSpike(), 120, 180, twin_of="miner",
    ),
    Story(
        "dropped-program", "a program that the image never had is written, then runs",
        "web", DroppedProgram(), 150, 150, Level.COMPROMISED, Action.ISOLATE,
    ),
    Story(
        "deploy", "a new version with new programs, peer and figures",
        "api", Deploy(), 180, 240, twin_of="dropped-program",
    ),
    Story(
        "memory-leak", "one container's memory grows and grows",
        "notifier", MemoryLeak(), 0, 480, Level.CORRUPTED, Action.REDEPLOY,
    ),
    Story(
        "cache-fills", "a cache is restarted and fills up again",
        "cache", CacheFills(), 210, 300, twin_of="memory-leak",
    ),
    Story(
        "port-scan", "a container tries the ports of its neighbours",
        "cart", PortScan(), 240, 120, Level.COMPROMISED, Action.ISOLATE,
    ),
    Story(
        "scale-out", "two more containers share the same work",
        "catalog", ScaleOut(), 270, 180, twin_of="port-scan",
    ),
    Story(
        "changed-boot", "a container comes back privileged, with another command and mount",
        "ledger", ChangedBoot(), 300, 120, Level.COMPROMISED, Action.ISOLATE,
    ),
    Story(
        "restart", "a container is restarted as it was",
        "mailer", Restart(), 330, 120, twin_of="changed-boot",
    ),
)  # fmt: skip  # one story in three lines


def story_named(name: str, stories: Iterable[Story] = STORIES) -> Story:
    """Raises: KeyError when none has that name."""
    found = {story.name: story for story in stories}
    if name not in found:
        raise KeyError(f"no story is called {name!r}; there are {', '.join(found)}")
    return found[name]
