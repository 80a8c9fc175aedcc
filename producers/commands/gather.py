"""``plimsoll gather``: frames of all hosts to batches per image."""

from __future__ import annotations

import signal
import threading
import time
from typing import Annotated, Any

import typer


def command(
    group: Annotated[
        str | None, typer.Option(help="Consumer group; all that share it share the work.")
    ] = None,
    clock: Annotated[
        str | None, typer.Option(help="wall, or log for recorded or simulated telemetry.")
    ] = None,
    tick_s: Annotated[
        float | None, typer.Option(help="Seconds between two ticks to every partition.")
    ] = None,
    metrics_port: Annotated[
        int,
        typer.Option(help="Serve metrics, /healthz and /readyz on this port of loopback; 0: none."),
    ] = 0,
) -> None:
    """Regroup all hosts' frames into batches per image.

    Joins the inventory, notices gaps and silence, writes telemetry and time.
    Source offsets are committed once Kafka has all that was made of them.
    Start more of them to share the work; SIGTERM ends one in good order.
    """
    from producers.gather.clock import LogClock
    from producers.gather.loop import Gather
    from producers.meters import GatherMeters
    from producers.settings import load

    flags: dict[str, Any] = {"gather": {"group": group, "clock": clock, "tick_s": tick_s}}
    settings = load(**flags)
    meters = GatherMeters()
    gather = Gather(
        settings, LogClock() if settings.gather.clock == "log" else time.time_ns, meters
    )
    meters.serve(metrics_port, gather.pulse.state)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    gather.run(stop)
