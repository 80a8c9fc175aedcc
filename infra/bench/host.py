"""What collector and responder take of a host with many real containers.

``python -m infra.bench.host --containers 100`` starts idle containers, a Kafka, and both parts
as a deployment has them; reads their CPU time and memory from /proc. Containers that were here
before are collected as well, and count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.progress import track

from infra.bench import parts
from infra.bench.collector import idle_containers
from infra.bench.results import record
from infra.kafka import KafkaServer

NAMES: Final = ("collect", "respond")
WARM_UP_S: Final = 30
"""Both are up, and the first look at every container's files is behind them."""


def measured(bootstrap: str, directory: Path, period_s: float, seconds: int) -> dict[str, Any]:
    """Shares of a core, and memory that is not shared with others."""
    settings = {
        "KAFKA__BOOTSTRAP": bootstrap, "DATA_DIR": directory, "TOPICS__PARTITIONS": 4,
        "COLLECT__SAMPLE_PERIOD_S": period_s, "COLLECT__FRAME_INTERVAL_S": period_s,
    }  # fmt: skip  # one line a thought
    for name, flag in (("topics", "create"), ("keys", "init")):
        with parts.part(name, settings, directory / f"{name}.log", flag) as once:
            if once.wait(60):
                raise RuntimeError((directory / f"{name}.log").read_text()[-2000:])
    with (
        parts.part("collect", settings, directory / "collect.log") as collector,
        parts.part("respond", settings, directory / "respond.log") as responder,
    ):
        running = dict(zip(NAMES, (collector, responder), strict=True))
        for _ in track(range(WARM_UP_S), "warming up", console=Console(stderr=True)):
            time.sleep(1)
        used_s = {name: parts.cpu_s(one.pid) for name, one in running.items()}
        began_s = time.monotonic()
        for _ in track(range(seconds), "measuring", console=Console(stderr=True)):
            time.sleep(1)
        wall_s = time.monotonic() - began_s
        ended = [name for name, one in running.items() if one.poll() is not None]
        if ended:
            raise RuntimeError(f"{ended[0]} ended: {(directory / f'{ended[0]}.log').read_text()}")
        return {
            name: {
                "core_share": round((parts.cpu_s(one.pid) - used_s[name]) / wall_s, 5),
                "resident_bytes": parts.resident_bytes(one.pid),
                "proportional_bytes": parts.proportional_bytes(one.pid),
            }
            for name, one in running.items()
        }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--containers", type=int, default=100)
    asked.add_argument("--seconds", type=int, default=60)
    asked.add_argument("--period", type=float, default=5.0)
    asked.add_argument("--json", action="store_true", help="one object on standard output")
    given = asked.parse_args()
    parts.stoppable()
    with (
        tempfile.TemporaryDirectory(prefix="plimsoll-host-") as made,
        KafkaServer(Path(made) / "kafka") as kafka,
        idle_containers(given.containers),
    ):
        found = measured(kafka.bootstrap, Path(made), given.period, given.seconds)
    whole = {
        "containers": given.containers, "sample_period_s": given.period, **found,
        "core_share": round(sum(one["core_share"] for one in found.values()), 5),
        "proportional_bytes": sum(one["proportional_bytes"] for one in found.values()),
    }  # fmt: skip  # one line a thought
    record("host", whole)
    sys.stdout.write(orjson.dumps(whole, option=0 if given.json else orjson.OPT_INDENT_2).decode())
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
