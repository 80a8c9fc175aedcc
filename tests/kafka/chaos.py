"""Figures under faults: ``python -m tests.kafka.chaos --runs 5 --messages 20000``.

Each run disturbs two workers by joins with SIGTERM and by kill -9 while records arrive, then
lets one drain the rest; one JSON line a run, one for all. Exit code 1 when anything was
lost, hung or differs from a replay.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.kafka import KafkaServer
from tests.kafka.trial import Trial


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000, help="in each run")
    parser.add_argument("--stock", action="store_true", help="Faust's own recovery, as a control")
    asked = parser.parse_args()
    with broker() as bootstrap:
        reports = [one(bootstrap, seed, asked) for seed in range(asked.runs)]
    total = {
        "runs": len(reports),
        "messages": sum(report["made"] for report in reports),
        "lost": sum(report["lost"] for report in reports),
        "hangs": sum(report["hung"] for report in reports),
        "duplicates": sum(report["duplicates"] for report in reports),
        "state_equal": sum(report["state_equal"] for report in reports),
    }
    say(total)
    return int(bool(total["lost"] or total["hangs"] or total["state_equal"] < len(reports)))


def one(bootstrap: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One run; ``hung`` when the rest was not drained in two minutes."""
    options = {"stock": asked.stock, "nap_s": 0.05, "most": 50, "widen_s": 0.1}
    with tempfile.TemporaryDirectory() as directory:
        prefix = f"chaos{uuid.uuid4().hex[:8]}."
        with Trial(bootstrap, prefix, Path(directory), options) as trial:
            began_s, hung = time.monotonic(), False
            disturb(trial, random.Random(seed), asked.messages)
            try:
                trial.until_committed(120)
            except AssertionError:
                hung = True
            report = {"run": seed, "hung": hung, **asdict(trial.verdict())}
    report["seconds"] = round(time.monotonic() - began_s, 1)
    say(report)
    return report


def disturb(trial: Trial, chance: random.Random, messages: int) -> None:
    """Two joins that leave in order and two kills, at random instants while records come."""
    writer = threading.Thread(target=write, args=(trial, messages))
    trial.start()
    trial.produce(100)
    trial.until_outputs(1)
    writer.start()
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        other = trial.start()
        time.sleep(6 + 3 * chance.random())  # a fault comes when it comes
        other.send_signal(end)
        trial.until_ended(other)
    writer.join()


def write(trial: Trial, messages: int) -> None:
    """Spread over the time of the faults."""
    for _ in range(messages // 50):
        trial.produce(50, keys=200)
        time.sleep(28 / (messages / 50))  # the pace of the input is part of the run


@contextlib.contextmanager
def broker() -> Iterator[str]:
    running = os.environ.get("PLIMSOLL_TEST_BROKER")
    if running:
        yield running
        return
    with tempfile.TemporaryDirectory() as directory, KafkaServer(directory) as server:
        yield server.bootstrap


def say(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
