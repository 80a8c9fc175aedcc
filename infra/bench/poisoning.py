"""What patience buys an attacker: ``python -m infra.bench.poisoning``.

One of four containers, each of which sends about 15 kB/s, sends a little to a stranger too:
steadily, or doubling every so many hours, so that the live judge's core learns it. How much
is out before the container is called *suspect*, how long did that take, and how far has the
upper bound of what it usually sends moved by then?
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

import orjson
from rich.console import Console
from rich.progress import Progress

from infra.bench.playing import START_NS, Play, concerning, highest
from infra.bench.poisoning_plot import Curve, drawn
from models.features import INDEX
from models.members import LEVEL
from models.reasons import restored
from models.records.verdict import Level
from producers.sources.simulated import Fleet, Running, Story
from producers.sources.simulated.chance import rough
from producers.sources.simulated.images import CATALOGUE, Profile
from producers.sources.simulated.plots import EGRESS, OneVictim

PART: Final = "search"
STRANGER: Final = ("203.0.113.200", 443)
SENT: Final = INDEX["network_transmit_bytes_per_s"]
WARM_UP_S: Final = 3_600.0
LOOK_S: Final = 300.0
SIZES_MB: Final = (10, 30, 100)


@dataclass(frozen=True)
class Creep(OneVictim):
    """To one stranger, ever more: twice as much each ``doubling_h``, or as much (0)."""

    first_bytes_per_s: float = 1_000.0
    doubling_h: float = 1.0

    def disturb(self, fleet: Fleet, running: Running, seconds: float) -> None:
        victim = self.victim(fleet, running)
        if victim is None:
            return
        hours = running.elapsed_s(fleet.now_ns()) / 3600
        grown = 2 ** (hours / self.doubling_h) if self.doubling_h else 1.0
        sent = self.first_bytes_per_s * grown * seconds * rough(running.rng, 0.05)
        opened = 0 if "sent" in running.notes else 1
        running.notes["sent"] = running.notes.get("sent", 0) + int(sent)
        victim.carry((EGRESS, *STRANGER, "tcp"), sent, sent * 0.012, 1, opened)


@dataclass(slots=True)
class Push:
    """One attempt. ``hours``, ``sent_mb`` and ``usual_bytes_per_s`` go together, a look each;
    ``caught_h`` is when it was called suspect, None where it never was.
    """

    seed: int
    first_bytes_per_s: float
    doubling_h: float
    caught_h: float | None = None
    hours: list[float] = field(default_factory=list)
    sent_mb: list[float] = field(default_factory=list)
    usual_bytes_per_s: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        if self.doubling_h:
            return f"doubling every {self.doubling_h:g} h"
        return f"steadily {self.first_bytes_per_s / 1e3:g} kB/s"

    def took_h(self, size_mb: float) -> float | None:
        """When so much was out, None where it was caught (or over) before."""
        pairs = zip(self.hours, self.sent_mb, strict=True)
        found = next((hours for hours, sent in pairs if sent >= size_mb), None)
        caught = self.caught_h is not None and found is not None and found >= self.caught_h
        return None if caught else found


def profile() -> Profile:
    """A service that sends no more than short replies to its clients."""
    found = next(one for one in CATALOGUE if one.name == PART)
    return replace(found, reply_bytes=700)


def push(
    seed: int, first_bytes_per_s: float, doubling_h: float, hours: float, step_s: float
) -> Push:
    """Until it is caught or time is up."""
    play = Play(Fleet(seed, START_NS, catalogue=[profile()]), step_s, answers=False)
    play.run(WARM_UP_S / 2)
    play.train(WARM_UP_S / 2, seed, "bench")
    plot = Creep(first_bytes_per_s=first_bytes_per_s, doubling_h=doubling_h)
    running = play.fleet.tell(Story("creep", "", PART, plot, 0, hours * 3600 + LOOK_S))
    made = Push(seed, first_bytes_per_s, doubling_h)
    while True:
        made.hours.append(running.elapsed_s(play.fleet.now_ns()) / 3600)
        made.sent_mb.append(running.notes.get("sent", 0) / 1e6)
        made.usual_bytes_per_s.append(_usual(play, running.victims[0]))
        if made.hours[-1] >= hours or made.caught_h is not None:
            return made
        if not doubling_h and made.sent_mb[-1] >= SIZES_MB[-1]:
            return made
        _pass(play, running, made)


def _pass(play: Play, running: Running, made: Push) -> None:
    """Until the next look, or the step in which it is caught."""
    until_ns = play.fleet.now_ns() + LOOK_S * 1e9
    while play.fleet.now_ns() < until_ns:
        play.step()
        if highest(concerning(running, play.findings)).rank >= Level.SUSPECT.rank:
            made.caught_h = running.elapsed_s(play.fleet.now_ns()) / 3600
            return


def _usual(play: Play, subject: str) -> float:
    """The upper bound of what this container usually sends."""
    state = next(one for one in play.states.values() if subject in one.members.rows)
    row = state.members.rows[subject]
    image = state.images[state.members.who[row].image]
    own = state.members.trust()[row] * state.members.grid[row, LEVEL, SENT]
    return restored(SENT, float(image.baseline.high[SENT] + own))[0]


def pushes(
    seeds: Sequence[int], steady: Sequence[float], doublings_h: Sequence[float], hours: float,
    step_s: float, told: Callable[[], None] = lambda: None,
) -> list[Push]:  # fmt: skip  # two lines say as much
    """Every way with every seed; ``told`` is called after each."""
    ways = [(rate, 0.0) for rate in steady] + [(1_000.0, doubling) for doubling in doublings_h]
    made = []
    for first_bytes_per_s, doubling_h in ways:
        for seed in seeds:
            made.append(push(seed, first_bytes_per_s, doubling_h, hours, step_s))
            told()
    return made


def summed(made: Sequence[Push]) -> list[dict[str, object]]:
    """By way: when it was caught, what was out, the bound's growth, when each size was out;
    all by seed, in order.
    """
    return [
        {
            "way": name,
            "caught_h": [one.caught_h for one in alike],
            "sent_mb": [one.sent_mb[-1] for one in alike],
            "usual_from": [one.usual_bytes_per_s[0] for one in alike],
            "usual_to": [one.usual_bytes_per_s[-1] for one in alike],
            **{f"{size}_mb_after_h": [one.took_h(size) for one in alike] for size in SIZES_MB},
        }
        for name, alike in _by_name(made).items()
    ]


def curves(made: Sequence[Push]) -> list[Curve]:
    """One line for each way: of the seeds, the one that sent the median amount."""
    found = []
    for name, alike in _by_name(made).items():
        middle = median(one.sent_mb[-1] for one in alike)
        one = min(alike, key=lambda push: abs(push.sent_mb[-1] - middle))
        found.append(Curve(
            name, not one.doubling_h, one.caught_h is not None, one.hours, one.sent_mb,
            [usual / 1e3 for usual in one.usual_bytes_per_s],
        ))  # fmt: skip  # in the order of the class
    return found


def _by_name(made: Sequence[Push]) -> dict[str, list[Push]]:
    found: dict[str, list[Push]] = {}
    for one in made:
        found.setdefault(one.name, []).append(one)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[301, 302, 303])
    parser.add_argument("--steady", type=float, nargs="+", default=[1e3, 3e3, 1e4, 3e4])
    parser.add_argument("--doublings-h", type=float, nargs="+", default=[0.25, 0.5, 1, 2, 4])
    parser.add_argument("--hours", type=float, default=24.0, help="given up after")
    parser.add_argument("--step-s", type=float, default=10.0, help="between samples")
    parser.add_argument("--svg", type=Path, help="where to draw it")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    ways = len(asked.steady) + len(asked.doublings_h)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("pushes", total=len(asked.seeds) * ways)
        made = pushes(
            asked.seeds, asked.steady, asked.doublings_h, asked.hours, asked.step_s,
            lambda: progress.advance(task),
        )  # fmt: skip  # one call
    if asked.svg:
        asked.svg.write_text(drawn(curves(made)))
    if asked.json:
        body = [asdict(one) for one in made]
        sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console(width=140)
    for row in summed(made):
        console.print(row)


if __name__ == "__main__":
    main()
