"""The same stories otherwise: sizes, rates, ports, victims and pauses drawn around the script.

For measuring, never for the demo, which tells the script itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from producers.sources.simulated.chance import Chance
from producers.sources.simulated.images import CATALOGUE, MIB
from producers.sources.simulated.plots import (
    PORTS_TRIED,
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
from producers.sources.simulated.stories import STORIES, Story

LATEST_S: Final = 120.0
"""A varied story begins so late at most."""
UNTOLD: Final = ("edge", "queue", "crawler", "reports")
"""Parts that no script uses: attacks may befall them as well."""
_REPLICAS: Final = {profile.name: profile.replicas for profile in CATALOGUE}
_PORTS: Final = (22, 53, 80, 443, 993, 4444, 8443)
_PLACES: Final = ("/tmp", "/var/tmp/.cache", "/dev/shm", "/usr/local/bin", "/opt")  # noqa: S108  # simulated
_CHANGES: Final = ("command", "mounts", "privileged", "user")


def varied(rng: Chance, stories: Sequence[Story] = STORIES) -> tuple[Story, ...]:
    """Each story once, on the script's images: attacks and faults exchange theirs among each
    other and with those of which no script tells; twins keep theirs, whose life they are.

    >>> from producers.sources.simulated.chance import chance
    >>> varied(chance(1)) == varied(chance(1)), varied(chance(1)) == varied(chance(2))
    (True, False)
    """
    parts = [story.part for story in stories if not story.twin] + list(UNTOLD)
    rng.shuffle(parts)
    return tuple(
        _varied(story, story.part if story.twin else parts.pop(), rng) for story in stories
    )


def _varied(story: Story, part: str, rng: Chance) -> Story:
    plot, lasts = _DRAWS[story.name](rng, _REPLICAS[part]), story.lasts_s
    return replace(
        story, part=part, plot=plot, starts_s=rng.uniform(0, LATEST_S),
        lasts_s=lasts * around(rng, 1.3),
    )  # fmt: skip  # what differs


def around(rng: Chance, most: float) -> float:
    """A factor between 1/most and most, as often above 1 as below."""
    return math.exp(rng.uniform(-math.log(most), math.log(most)))


def _rests_s(rng: Chance) -> float:
    """Every other one pauses."""
    return rng.choice((0.0, rng.uniform(5, 60)))


def _peer(rng: Chance) -> tuple[str, int]:
    return f"203.0.113.{rng.randint(1, 254)}", rng.choice(_PORTS)


def _exfiltration(rng: Chance, replicas: int) -> Plot:
    """A third of a megabyte to twenty a second."""
    return Exfiltration(
        rng.randrange(replicas), rng.uniform(10, 60), _rests_s(rng), 2.5e6 * around(rng, 8),
        _peer(rng),
    )  # fmt: skip  # in the order of the class


def _partner(rng: Chance, _replicas: int) -> Plot:
    first = rng.randint(1, 250)
    addresses = tuple(f"192.0.2.{first + more}" for more in range(rng.randint(1, 3)))
    return PartnerAddress(rng.uniform(5, 90), addresses)


def _miner(rng: Chance, replicas: int) -> Plot:
    """A quarter of a core to almost two."""
    return Miner(
        rng.randrange(replicas), rng.uniform(30, 90), _rests_s(rng), 0.7 * around(rng, 2.7),
        9 * MIB * around(rng, 4), _peer(rng),
    )  # fmt: skip  # in the order of the class


def _spike(rng: Chance, _replicas: int) -> Plot:
    return LoadSpike(1.0 + 2.0 * around(rng, 3), rng.uniform(5, 60))


def _dropped(rng: Chance, replicas: int) -> Plot:
    name = rng.choice(("kworkerd", ".x", "sshd", "update.sh", "node"))
    path = f"{rng.choice(_PLACES)}/{name}"
    return DroppedProgram(
        rng.randrange(replicas), path=path, runs_after_s=rng.uniform(0, 60),
        cores=0.03 * around(rng, 10),
    )  # fmt: skip  # in the order of the class


def _deploy(rng: Chance, _replicas: int) -> Plot:
    return Deploy(rng.uniform(5, 45), around(rng, 2), around(rng, 1.7))


def _leak(rng: Chance, replicas: int) -> Plot:
    """A quarter of a mebibyte to four a second."""
    return MemoryLeak(rng.randrange(replicas), bytes_per_s=MIB * around(rng, 4))


def _fills(rng: Chance, replicas: int) -> Plot:
    return CacheFills(rng.randrange(replicas))


def _scan(rng: Chance, replicas: int) -> Plot:
    """Two to seventy attempts a second, at six ports or more."""
    ports = tuple(rng.sample(PORTS_TRIED, rng.randint(6, len(PORTS_TRIED))))
    return PortScan(
        rng.randrange(replicas), rng.uniform(5, 60), _rests_s(rng), 12 * around(rng, 6), ports
    )


def _scale(rng: Chance, _replicas: int) -> Plot:
    return ScaleOut(rng.randint(1, 5))


def _boot(rng: Chance, replicas: int) -> Plot:
    """One to four of the script's changes."""
    usual = ChangedBoot(rng.randrange(replicas), (), (), privileged=False, user="app")
    for change in rng.sample(_CHANGES, rng.randint(1, len(_CHANGES))):
        usual = replace(usual, **{change: getattr(ChangedBoot(), change)})
    return usual


def _restart(rng: Chance, replicas: int) -> Plot:
    return Restart(rng.randrange(replicas), rng.choice((0, 1, 137, 143)))


_DRAWS: Final[dict[str, Callable[[Chance, int], Plot]]] = {
    "exfiltration": _exfiltration,
    "partner-address": _partner,
    "miner": _miner,
    "load-spike": _spike,
    "dropped-program": _dropped,
    "deploy": _deploy,
    "memory-leak": _leak,
    "cache-fills": _fills,
    "port-scan": _scan,
    "scale-out": _scale,
    "changed-boot": _boot,
    "restart": _restart,
}
