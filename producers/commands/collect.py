"""``plimsoll collect``: what this host's containers do, to Kafka."""

from __future__ import annotations

import signal
import threading
import time
from typing import Annotated, Any

import typer


def command(
    source: Annotated[
        str | None, typer.Option(help="docker, simulated, or a source of another package.")
    ] = None,
    sample_period_s: Annotated[
        float | None, typer.Option(help="Seconds between two samples of a container.")
    ] = None,
    frame_interval_s: Annotated[
        float | None, typer.Option(help="Seconds between two frames to Kafka.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="The kind of machine; hosts of a pool are compared.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Two samples, for rates; then end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print frames, send nothing.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print frames as JSON lines (with --dry-run).")
    ] = False,
    metrics_port: Annotated[
        int,
        typer.Option(help="Serve metrics, /healthz and /readyz on this port of loopback; 0: none."),
    ] = 0,
) -> None:
    """Watch this host and write a frame an interval to plimsoll.samples.

    Samples of all containers and of the host, what they talk to, which
    programs run, what differs from their image, how they were started, and
    what was done to them. Says first what it sees, what it lacks the rights
    for and what that costs. While Kafka is away, frames wait on disk. Ends
    on SIGTERM.
    """
    from models.health import Pulse
    from producers.collecting import STANDS_S, Printer, run
    from producers.publish import Publisher, PublishMeters
    from producers.settings import load
    from producers.sources import load as load_source

    told: dict[str, Any] = {
        "source": source, "sample_period_s": sample_period_s,
        "frame_interval_s": frame_interval_s, "pool": pool,
    }  # fmt: skip  # one flag a line reads worse
    settings = load(collect=told)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rounds = 2 if once else 0
    found = load_source(settings.collect.source).open(settings, time.time_ns)
    try:
        typer.echo(f"plimsoll collect: {found.opening()}", err=True)
        period_s = settings.collect.sample_period_s
        if dry_run:
            printer = Printer(typer.echo, as_json=as_json)
            run(found, printer, period_s, stop, rounds)
            return
        meters = PublishMeters()
        pulse = Pulse(time.monotonic, STANDS_S + 5 * period_s)
        meters.serve(metrics_port, pulse.state)
        publisher = Publisher(settings, time.time_ns, meters)
        try:
            run(found, publisher, period_s, stop, rounds, pulse)
        finally:
            publisher.close()
    finally:
        found.close()
