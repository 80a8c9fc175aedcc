"""``plimsoll collect``: what this host's containers do, to Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.part import Part

if TYPE_CHECKING:
    from producers.settings import Settings


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
) -> Part | None:
    """Watch this host and write a frame an interval to plimsoll.samples.

    Samples of all containers and of the host, what they talk to, which
    programs run, what differs from their image, how they were started, and
    what was done to them. Says first what it sees, what it lacks the rights
    for and what that costs. While Kafka is away, frames wait on disk. Ends
    on SIGTERM.
    """
    from producers.settings import load

    told: dict[str, Any] = {
        "source": source, "sample_period_s": sample_period_s,
        "frame_interval_s": frame_interval_s, "pool": pool,
    }  # fmt: skip  # one flag a line reads worse
    settings = load(collect=told)
    rounds = 2 if once else 0
    if dry_run:
        _print(settings, rounds, as_json=as_json)
        return None
    options = {"rounds": rounds, "metrics_port": metrics_port}
    return Part("collect", "producers.collector:collect", settings, options)


def _print(settings: Settings, rounds: int, *, as_json: bool) -> None:
    from producers.collecting import Printer, run
    from producers.collector import source, stopping

    stop = stopping()
    with source(settings) as found:
        printer = Printer(typer.echo, as_json=as_json)
        run(found, printer, settings.collect.sample_period_s, stop, rounds)
