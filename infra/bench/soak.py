"""Half an hour at half load: does memory stay flat, does latency?

``python -m infra.bench.soak --minutes 30`` measures minute by minute and fits a line through
each part's resident memory and through the latency of alerts, the first sixth left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from rich.console import Console
from rich.progress import Progress

from infra.bench import parts
from infra.bench.fleet import CONTAINERS, Fleet, line
from infra.bench.latency import half_load, lived, settled
from infra.bench.results import record
from infra.kafka import KafkaServer
from models.contract import Topics

WINDOW_S: Final = 60.0


def slope(values: list[float]) -> dict[str, float]:
    """Where a figure begins, and what it gains in an hour; minutes in, the warm-up left out."""
    settled = values[len(values) // 6 :]
    minutes = np.arange(len(settled))
    if len(settled) < 3:
        return {"begins": settled[0], "per_hour": 0.0}
    gains, begins = np.polyfit(minutes, settled, 1)
    return {"begins": round(float(begins), 4), "per_hour": round(float(gains) * 60, 4)}


def told(windows: list[dict[str, Any]]) -> dict[str, Any]:
    memory = {
        name: slope([one["resident_bytes"][name] / 1e6 for one in windows])
        for name in windows[0]["resident_bytes"]
    }
    alerts = [one["alert_s"] for one in windows if one["alert_s"]]
    return {
        "minutes": len(windows), "hosts": windows[0]["hosts"],
        "samples": sum(one["samples"] for one in windows),
        "alerts_missing": sum(one["alerts_missing"] for one in windows),
        "resident_mb": memory,
        "alert_p50_s": slope([one["p50"] for one in alerts]),
        "alert_p99_s": slope([one["p99"] for one in alerts]),
        "alert_p99_worst_s": max(one["p99"] for one in alerts),
        "cores": windows[-1]["cores"],
    }  # fmt: skip  # one line a thought


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--minutes", type=int, default=30)
    asked.add_argument("--hosts", type=int, default=0, help="0: as many as make half a load")
    asked.add_argument("--json", action="store_true", help="one object on standard output")
    given = asked.parse_args()
    parts.stoppable()
    console = Console(stderr=True)
    windows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="plimsoll-soak-") as made,
        KafkaServer(Path(made) / "kafka") as kafka,
        Progress(console=console) as progress,
    ):
        task = progress.add_task("soak", total=given.minutes)
        hosts = given.hosts or half_load(kafka.bootstrap, Path(made))
        with line(kafka.bootstrap, Path(made), Topics("soak.")) as running:
            fleet = Fleet(hosts, running)
            settled(fleet, running)
            strange_per_s = min(0.9 * CONTAINERS * hosts / (given.minutes * 60), 8.0)
            for _ in range(given.minutes):
                windows.append(lived(fleet, running, WINDOW_S, strange_per_s))
                console.print({k: windows[-1][k] for k in ("resident_bytes", "alert_s", "cores")})
                progress.advance(task)
    found = told(windows)
    record("soak", found)
    sys.stdout.write(orjson.dumps(found, option=0 if given.json else orjson.OPT_INDENT_2).decode())
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
