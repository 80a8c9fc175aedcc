"""The worker, as ``plimsoll worker`` runs it, with a clock around it.

What it judges with is told by its settings, as always: the reduced job is
``PLIMSOLL_WORKER__DETECTORS='["forest"]'``.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import faust

from infra.bench.engines.job import MESSAGES, Meter
from streams.agents.judge import Judge
from streams.build import judge_app
from streams.delivery.app import run
from streams.meters import Meters
from streams.settings import load


def main() -> None:
    settings, meters = load(), Meters()
    app = judge_app(settings, meters, time.time_ns)
    _timed(app, meters)
    run(app, patience_s=settings.worker.stuck_s)


def _timed(app: faust.App, meters: Meters) -> None:
    """Start the clock at the first batch in the judge's hands, stop it at the last commit."""
    meter, take, ended = Meter(), Judge.take, asyncio.Event()

    async def taken(self: Judge, events: list[Any]) -> None:
        meter.start()
        await take(self, events)
        meter.messages += len(events)
        if meter.messages >= MESSAGES:
            ended.set()

    Judge.take = taken  # type: ignore[method-assign]  # the same, on the clock

    @app.task  # type: ignore[untyped-decorator]  # Faust has no types
    async def ending() -> None:
        consumer: Any = app.consumer
        await ended.wait()
        # As a worker does that is told to stop; else the clock would show a commit interval.
        while sum(consumer._committed_offset[tp] or 0 for tp in consumer.due) < MESSAGES:  # noqa: SLF001  # Faust tells it nowhere else
            await consumer.commit()
            await asyncio.sleep(0.001)
        meter.samples = _total(meters.samples)
        meter.alerts = _total(meters.findings)
        meter.tell(rejected=_total(meters.rejected))
        os._exit(0)  # all is committed; the group is of this run alone


def _total(counter: Any) -> int:
    parts = (sample for metric in counter.collect() for sample in metric.samples)
    return int(sum(part.value for part in parts if part.name.endswith("_total")))


if __name__ == "__main__":
    main()
