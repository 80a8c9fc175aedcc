"""One run: the line is started, fed, disturbed, drained, judged."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from confluent_kafka import KafkaException

from infra.kafka import KafkaServer
from models.errors import BrokerUnreachable
from tests.kafka.chaos.faults import RECOVERY_S, Fault, Stage
from tests.kafka.chaos.line import RUNNING, Line
from tests.kafka.chaos.load import Load
from tests.kafka.chaos.oracle import Found, Oracle

EXPECTED_S: Final = 12.0
"""What a fault and its recovery take, about: the load is spread over so many of these."""
TRICKLE: Final = 4
"""Records to every partition, at least, with each turn of the pace."""
DRAIN_S: Final = 600.0
WARM_SHARE: Final = 0.02
"""Of the messages, before the first fault."""

SILENT: Final = (AssertionError, KafkaException, BrokerUnreachable)
"""What a wait without end comes to."""

Say = Callable[[str, float], None]


@dataclass
class Run:
    """What came of it."""

    faults: int = 0
    hangs: list[str] = field(default_factory=list)
    recovery_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    parts: dict[str, Found] = field(default_factory=dict)
    stops_s: dict[str, list[float]] = field(default_factory=dict)
    restarts: int = 0
    skipped_offsets: int = 0
    seconds: float = 0.0
    drained_s: float = 0.0
    rebuilt: dict[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        parts = self.parts
        return {
            "faults": self.faults,
            "messages": parts["gather"].messages,
            "lost": sum(one.lost for one in parts.values()),
            "duplicates": sum(one.duplicates for one in parts.values()),
            "state_equal": all(parts[one].equal for one in ("gather", "worker", "archive")),
            "alerts_equal": all(parts[one].equal for one in ("govern", "respond")),
            "hangs": self.hangs,
            "skipped_offsets": self.skipped_offsets,
            "ended_by_themselves": self.restarts,
            "recovery_s": {kind: _spread(times) for kind, times in self.recovery_s.items()},
            "stopped_in_order_s": {part: _spread(s) for part, s in self.stops_s.items() if s},
            "lost_changelog": self.rebuilt,
            "parts": {part: found.told() for part, found in parts.items()},
            "seconds": round(self.seconds), "drained_s": round(self.drained_s, 1),
        }  # fmt: skip  # by subject


def _spread(times: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99])
    return {"n": len(times), "p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def run(
    broker: KafkaServer, directory: Path, faults: Sequence[Fault], messages: int, say: Say,
    until_s: float,
) -> Run:  # fmt: skip  # two lines say as much
    """``until_s`` (monotonic) bounds it: faults that are still to come by then are left out."""
    began_s, told = time.monotonic(), Run()
    with Line(broker.bootstrap, "chaos.", directory) as line:
        load = Load(broker.bootstrap, line.topics)
        stage = Stage(line, load, broker)
        line.start_all()
        load.allow(int(messages * WARM_SHARE))
        load.attack()
        _caught_up(line, tuple(RUNNING))
        for number, fault in enumerate(faults):
            if time.monotonic() > until_s:
                break
            say(fault.kind, number / len(faults))
            _strike(stage, fault, told, _Pace(load, messages, number, len(faults)))
        load.allow(messages)
        load.flush()
        drained_s = time.monotonic()
        oracle = Oracle(line, load, say)
        try:
            _drain(line, oracle, say)
            told.drained_s = time.monotonic() - drained_s
            _stop(line)
        except SILENT as hung:  # judged all the same: what is unread counts as lost
            told.hangs.append(f"at the end: {hung}"[:2_000])
        told.restarts, told.skipped_offsets = line.restarts, line.lines("offsets were skipped")
        told.stops_s = line.stops_s
        told.parts = oracle.judged()
        say("lost changelog", 1.0)
        told.rebuilt = _rebuilt(line, oracle)
    told.seconds = time.monotonic() - began_s
    return told


@dataclass
class _Pace:
    """Lets the load write its share of the messages while one fault and its recovery last."""

    load: Load
    messages: int
    number: int
    count: int
    began_s: float = field(default_factory=time.monotonic)

    def __call__(self) -> None:
        """Whoever calls often keeps records coming, too, once the share is written."""
        passed = (time.monotonic() - self.began_s) / EXPECTED_S
        share = (self.number + min(passed, 1.0)) / self.count
        self.load.allow(int(self.messages * (WARM_SHARE + (1 - WARM_SHARE) * share)))
        if passed > 1.0:
            self.load.allow(self.load.written + TRICKLE)


def _strike(stage: Stage, fault: Fault, told: Run, pace: _Pace) -> None:
    """Let the load go on, strike, and time how long the parts that were hit need afterwards
    until they are done with all that was there.
    """
    line = stage.line
    stage.load.attack()
    stop = _paced(pace)
    try:
        fault.strike(stage)
        struck_s = time.monotonic()
        mark = {part: line.ahead(part) for part in fault.hits}
        for part in fault.hits:
            line.until(
                lambda part=part: line.has_reached(part, mark[part]),  # type: ignore[misc]  # bound now
                f"{part} after {fault.kind}", RECOVERY_S,
            )  # fmt: skip  # one call
        told.recovery_s[fault.kind].append(time.monotonic() - struck_s)
    except SILENT as hung:
        told.hangs.append(f"{fault.kind}: {hung}"[:2_000])
    finally:
        stop()
        told.faults += 1


def _paced(pace: _Pace) -> Callable[[], None]:
    """Keep the load going in the background; call what it returns to end that."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(0.1):
            pace()

    thread = threading.Thread(target=keep, name="pace", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()

    return stop


def _caught_up(line: Line, parts: Sequence[str], seconds: float = RECOVERY_S) -> None:
    for part in parts:
        mark = line.ends(part)
        line.until(
            lambda part=part, mark=mark: line.has_reached(part, mark),  # type: ignore[misc]  # bound now
            f"{part} up to date", seconds,
        )  # fmt: skip  # one call


def _drain(line: Line, oracle: Oracle, say: Say) -> None:
    """Until nothing is under way: each part in the order in which they feed each other."""
    say("drain", 1.0)
    _caught_up(line, ("gather", "worker", "govern", "respond"), DRAIN_S)

    def answered() -> bool:
        try:
            return not oracle.unanswered()
        except (BrokerUnreachable, KafkaException):
            return False

    line.until(answered, "orders answered", DRAIN_S)


def _rebuilt(line: Line, oracle: Oracle) -> dict[str, Any]:
    """Delete the changelog, with no worker there, and restore it by command."""
    line.delete_topic(f"{line.group('worker')}-baselines-changelog")
    began_s = time.monotonic()
    try:
        made = json.loads(line.run("rebuild", "--json"))
    except AssertionError as failed:
        return {"equal": False, "why": str(failed)[-2_000:]}
    return {
        "partitions": len(made), "records": sum(one["records"] for one in made),
        "equal": not oracle.unlike(), "seconds": round(time.monotonic() - began_s, 1),
    }  # fmt: skip  # a table


def _stop(line: Line) -> None:
    """In order, who writes before who reads: the archive takes in the last of all."""
    for part in ("gather", "worker", "respond", "govern"):
        while line.processes[part]:
            line.end(part, signal.SIGTERM)
        following = {"gather": "worker", "worker": "govern", "respond": "govern"}.get(part)
        if following:
            _caught_up(line, (following,))
    _caught_up(line, ("archive",))
    line.end("archive", signal.SIGTERM)
