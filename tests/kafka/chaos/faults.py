"""The faults: each strikes one part or the broker; all but the stated ones end by themselves."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from infra.kafka import KafkaServer
from tests.kafka.chaos.line import RUNNING, Line
from tests.kafka.chaos.load import Load

RECOVERY_S: Final = 180.0
"""A part that has not done by then what was there when the fault ended counts as hung."""
FULL_S: Final = 40.0
SAID_FULL: Final = {"archive": "the disk has room", "respond": "make room"}
"""What whoever is on call must read."""
STEPS: Final = ("received", "witnessed", "prepared", "acted", "told", "held")


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` names it in the report; ``hits`` are the parts whose recovery is timed."""

    kind: str
    hits: tuple[str, ...]
    strike: Callable[[Stage], None]


@dataclass
class Stage:
    """What faults act upon."""

    line: Line
    load: Load
    broker: KafkaServer
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def one_of(self, part: str) -> int:
        return self.chance.randrange(len(self.line.processes[part]))


def plan(count: int, seed: int, only: str = "") -> list[Fault]:
    """So many faults: every kind once in a stated order, then again in random order; ``only``
    those in whose name that word is.
    """
    kinds = [kind for kind in _kinds() if only in kind.kind]
    chance = random.Random(seed)
    chosen = kinds[:count]
    while len(chosen) < count:
        again = kinds.copy()
        chance.shuffle(again)
        chosen += again[: count - len(chosen)]
    return chosen


def _kinds() -> Iterator[Fault]:
    """The worst first: a short run takes these."""
    yield Fault("kill worker", ("worker",), _killing("worker"))
    yield _dying("after/acted")
    yield Fault("broker killed", tuple(RUNNING), _broker_killed)
    yield Fault("worker joins and leaves", ("worker",), _joining("worker"))
    yield Fault("kill gather", ("gather",), _killing("gather"))
    yield Fault("kill archive", ("archive",), _killing("archive"))
    yield Fault("kill govern", ("govern",), _killing("govern"))
    yield Fault("broker frozen", tuple(RUNNING), _broker_frozen)
    yield Fault("worker sleeps past its session", ("worker",), _sleeping("worker"))
    yield Fault("kill worker and gather", ("worker", "gather"), _killing("worker", "gather"))
    yield Fault("rolling restart of workers", ("worker",), _rolling("worker"))
    yield Fault("broker stopped", tuple(RUNNING), _broker_stopped)
    yield Fault("gather joins and leaves", ("gather",), _joining("gather"))
    yield Fault("slow worker", ("worker",), _slow("worker"))
    yield Fault("rolling restart of gathers", ("gather",), _rolling("gather"))
    yield Fault("rolling restart of governors", ("govern",), _rolling("govern"))
    yield Fault("slow archive", ("archive",), _slow("archive"))
    yield Fault("restart of the archive", ("archive",), _rolling("archive"))
    yield Fault("restart of the responder", ("respond",), _rolling("respond"))
    yield Fault("governor sleeps past its session", ("govern",), _sleeping("govern"))
    yield Fault("gather sleeps past its session", ("gather",), _sleeping("gather"))
    yield Fault("all workers killed", ("worker",), _killing("worker", "worker"))
    yield Fault("broker and worker killed", tuple(RUNNING), _both_killed)
    if os.geteuid() == 0:  # who else may make a disk full that is nobody's
        yield Fault("archive's disk full", ("archive",), _full("archive"))
        yield Fault("responder's disk full", ("respond",), _full("respond"))
    for step in STEPS:
        for moment in ("before", "after"):
            at = f"{moment}/{step}"
            if at not in ("before/received", "after/acted"):  # never written so; is there already
                yield _dying(at)


# ---- processes ------------------------------------------------------------------------------


def _killing(*parts: str) -> Callable[[Stage], None]:
    def strike(stage: Stage) -> None:
        for part in parts:
            stage.line.end(part, signal.SIGKILL, stage.one_of(part))
        for part in parts:
            stage.line.start(part)

    return strike


def _rolling(part: str) -> Callable[[Stage], None]:
    """One after the other ends in order, and comes back."""

    def strike(stage: Stage) -> None:
        for _ in range(RUNNING[part]):
            stage.line.end(part, signal.SIGTERM)
            stage.line.start(part)

    return strike


def _joining(part: str) -> Callable[[Stage], None]:
    """One more comes, takes its share, and leaves."""

    def strike(stage: Stage) -> None:
        stage.line.start(part)
        mark = stage.line.ends(part)
        stage.line.until(lambda: stage.line.has_reached(part, mark), "joined", RECOVERY_S)
        time.sleep(3 * stage.chance.random())  # it leaves when it leaves
        stage.line.end(part, signal.SIGTERM, len(stage.line.processes[part]) - 1)

    return strike


def _sleeping(part: str) -> Callable[[Stage], None]:
    """Suspended for longer than its session lasts: another takes over, then it wakes."""

    def strike(stage: Stage) -> None:
        process = stage.line.processes[part][stage.one_of(part)]
        process.send_signal(signal.SIGSTOP)
        time.sleep(9)  # a session is 6 s
        process.send_signal(signal.SIGCONT)

    return strike


def _slow(part: str) -> Callable[[Stage], None]:
    """It gets a fifth of the time that it would take."""

    def strike(stage: Stage) -> None:
        process = stage.line.processes[part][stage.one_of(part)]
        until_s = time.monotonic() + 8
        while time.monotonic() < until_s and process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.4)  # the slowness itself
            process.send_signal(signal.SIGCONT)
            time.sleep(0.1)

    return strike


def _full(part: str) -> Callable[[Stage], None]:
    """No room until the part has ended for want of it, which it must say."""

    def strike(stage: Stage) -> None:
        line, told = stage.line, stage.line.lines(SAID_FULL[part])
        (process,) = line.processes[part]
        if not line.disks[part].mounted:
            return
        with line.disks[part].full():
            until_s = time.monotonic() + FULL_S
            while process.poll() is None and time.monotonic() < until_s:
                stage.load.attack()  # something to write down
                time.sleep(1)  # what lies in its files may take some more
        ended = process.poll() is not None
        assert not ended or line.lines(SAID_FULL[part]) > told, f"{part} ended without a word"
        line.supervise()

    return strike


def _dying(at: str) -> Fault:
    """The responder kills itself at one written step of an isolation."""
    moment, _, step = at.partition("/")

    def strike(stage: Stage) -> None:
        line = stage.line
        line.end("respond", signal.SIGTERM)
        dying = line.start("respond", die_at=at)
        stage.load.attack()
        line.until(lambda: dying.poll() is not None, f"its death {moment} {step}", RECOVERY_S)
        line.supervise()

    return Fault(f"responder killed {moment} {step}", ("respond",), strike)


# ---- the broker -----------------------------------------------------------------------------


def _broker_killed(stage: Stage) -> None:
    stage.broker.kill()
    time.sleep(2 * stage.chance.random())  # how long it stays away
    stage.broker.start(RECOVERY_S)


def _broker_stopped(stage: Stage) -> None:
    stage.broker.stop()
    time.sleep(3)  # how long it stays away
    stage.broker.start(RECOVERY_S)


def _broker_frozen(stage: Stage) -> None:
    stage.broker.freeze()
    time.sleep(4 + 6 * stage.chance.random())  # how long its pause lasts
    stage.broker.thaw()


def _both_killed(stage: Stage) -> None:
    stage.line.end("worker", signal.SIGKILL, stage.one_of("worker"))
    stage.line.start("worker")
    _broker_killed(stage)
