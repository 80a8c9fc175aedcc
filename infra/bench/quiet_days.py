"""How quiet benign days are: ``python -m infra.bench.quiet_days``.

Seven of the simulated fleet's images, one of them far noisier than its script, live through
days of deploys, load spikes, restarts, scaling and nightly jobs before the live judge's core.
Whatever it calls corrupted or worse is a false alarm. Nothing is carried out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

import orjson
from rich.console import Console
from rich.progress import Progress

from infra.bench.playing import POLICY, START_NS, Play
from models.records.facts import Direction
from models.records.order import Action
from models.records.verdict import Finding, Level
from producers.sources.simulated import Fleet, Running, Story
from producers.sources.simulated.chance import Chance, chance, rough
from producers.sources.simulated.images import CATALOGUE, OUTSIDE, Profile
from producers.sources.simulated.plots import (
    Deploy,
    LoadSpike,
    OneVictim,
    Plot,
    Restart,
    ScaleOut,
)
from producers.sources.simulated.variations import around

DAY_S: Final = 86_400.0
WARM_UP_S: Final = 3_600.0
NOISY: Final = "thumbnails"
PARTS: Final = ("search", "queue", "notifier", "mailer", "reports", "orders-db", NOISY)
BUSY: Final = ("search", "notifier", "reports", NOISY)
"""Those with a demand of their own, which can spike."""
NIGHT_H: Final = 2.0


@dataclass(frozen=True)
class Nightly(OneVictim):
    """A job in one container: work, and (where it has a store) an export to it."""

    cores: float = 0.5
    bytes_per_s: float = 0.0

    def disturb(self, fleet: Fleet, running: Running, seconds: float) -> None:
        victim = self.victim(fleet, running)
        if victim is None or not victim.reachable:
            return
        victim.burden.cores, victim.burden.processes = self.cores, 1
        if self.bytes_per_s:
            sent = self.bytes_per_s * seconds * rough(running.rng, 0.2)
            peer = running.rng.choice(OUTSIDE["object-store"])
            victim.carry((Direction.EGRESS, peer, 443, "tcp"), sent, sent * 0.01, 1, 1)


@dataclass(frozen=True)
class Breathes(ScaleOut):
    """More of the same for a while, then fewer again."""

    def end(self, fleet: Fleet, running: Running) -> None:
        for container in fleet.of(running.story.part)[-self.more :]:
            fleet.remove(container)


@dataclass(frozen=True, slots=True)
class Day:
    """``alarms`` by lineage; ``orders`` what the policy's rules would have asked for."""

    seed: int
    day: int
    alarms: dict[str, int]
    orders: dict[str, int]
    told: list[str] = field(default_factory=list)


def catalogue() -> list[Profile]:
    kept = [profile for profile in CATALOGUE if profile.name in PARTS]
    return [replace(p, restless=1.0) if p.name == NOISY else p for p in kept]


def schedule(rng: Chance, day_s: float = DAY_S) -> Iterator[Story]:
    """What happens in a day, each with the second at which it begins."""
    for _ in range(2):
        deploy = Deploy(rng.uniform(15, 120), around(rng, 1.3), around(rng, 1.2))
        yield _story(deploy, rng.choice(PARTS), rng.uniform(0, day_s), 900)
    for _ in range(3):
        spike = LoadSpike(1.0 + 2.0 * around(rng, 2), rng.uniform(20, 300))
        yield _story(spike, rng.choice(BUSY), rng.uniform(0, day_s), rng.uniform(300, 2_400))
    for _ in range(4):
        restart = Restart(rng.randrange(3), rng.choice((0, 137, 143)))
        yield _story(restart, rng.choice(PARTS), rng.uniform(0, day_s), 60)
    yield _story(Breathes(rng.randint(1, 3)), rng.choice(BUSY), rng.uniform(0, day_s), 7_200)
    night_s = (NIGHT_H * 3600 - WARM_UP_S - START_NS / 1e9) % DAY_S * day_s / DAY_S
    yield _story(Nightly(0, bytes_per_s=2e6), "reports", night_s, rng.uniform(900, 1_500))
    yield _story(Nightly(0, cores=0.8), "orders-db", night_s + 60, rng.uniform(600, 1_200))


def _story(plot: Plot, part: str, starts_s: float, lasts_s: float) -> Story:
    name = type(plot).__name__.lower()
    return Story(name, f"benign: {name}", part, plot, starts_s, lasts_s, twin_of="attack")


def lived(
    seed: int, days: int, step_s: float, told: Callable[[], None] = lambda: None,
    day_s: float = DAY_S,
) -> list[Day]:  # fmt: skip  # two lines say as much
    """Days of one fleet; ``told`` is called after each."""
    play = Play(Fleet(seed, START_NS, catalogue=catalogue()), step_s, answers=False)
    play.run(WARM_UP_S / 2)
    play.train(WARM_UP_S / 2, seed, "bench")
    made = []
    for day in range(days):
        play.findings, play.acted = [], {}
        _day(play, sorted(schedule(chance(seed, "day", day), day_s), key=_starts), day_s)
        made.append(_summed(seed, day, play.findings))
        told()
    return made


def _day(play: Play, due: list[Story], day_s: float) -> None:
    began_ns = play.fleet.now_ns()
    while play.fleet.now_ns() < began_ns + day_s * 1e9:
        while due and play.fleet.now_ns() >= began_ns + due[0].starts_s * 1e9:
            play.fleet.tell(due.pop(0))
        play.step()


def _starts(story: Story) -> float:
    return story.starts_s


def _summed(seed: int, day: int, findings: Sequence[Finding]) -> Day:
    loud = [one for one in findings if one.verdict.level.rank >= Level.CORRUPTED.rank]
    alarms = [one.verdict for one in loud if one.before.rank < Level.CORRUPTED.rank]
    orders = Counter(str(POLICY.action_for(one.verdict)) for one in loud)
    del orders[Action.ANNOTATE]
    told = [
        f"{one.verdict.name or one.verdict.subject[:12]} {one.verdict.level}: "
        f"{'; '.join(reason.text for reason in one.verdict.reasons[:3])}"
        for one in loud
    ]
    return Day(seed, day, dict(Counter(one.lineage for one in alarms)), dict(orders), told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[201, 202])
    parser.add_argument("--days", type=int, default=5, help="of each seed's fleet")
    parser.add_argument("--step-s", type=float, default=15.0, help="between samples")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    days: list[Day] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("days", total=len(asked.seeds) * asked.days)
        for seed in asked.seeds:
            days += lived(seed, asked.days, asked.step_s, lambda: progress.advance(task))
    if asked.json:
        body = [asdict(day) for day in days]
        sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console(width=140)
    for day in days:
        console.print(day.seed, day.day, day.alarms, day.orders, *day.told, sep="\n  ")


if __name__ == "__main__":
    main()
