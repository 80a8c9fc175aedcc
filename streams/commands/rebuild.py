"""``plimsoll rebuild``: a lost changelog, made once more from the telemetry."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from streams.commands.output import AsJson, show


def command(
    partition: Annotated[
        list[int] | None, typer.Option(min=0, help="Which; else all that are cold.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="The workers' consumer group.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and judge, say what would be, write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore what workers had learned, from the telemetry that Kafka still has.

    A partition is cold when its events were read and its changelog is gone. Stop the workers,
    run this, start them: they go on as if nothing had been lost, as far back as telemetry is
    kept. A second time changes nothing.
    """
    from models.contract import Topics
    from streams.commands.models import registry_of
    from streams.commands.progress import reading
    from streams.commands.replay import core_of_the_time, telemetry_of
    from streams.rebuilding import Rebuilding
    from streams.settings import load

    settings = load(worker={"group": group})
    rebuilding = Rebuilding(
        settings.kafka, Topics(settings.topic_prefix), settings.worker.group, settings.scope,
        core_of_the_time(settings, registry_of(settings)),
        telemetry_of(settings, lambda _share: None), settings.topics.replication or -1,
    )  # fmt: skip  # one call
    chosen = partition or rebuilding.cold()
    with reading("rebuilding", quiet=as_json) as progress:
        made = list(rebuilding.run(chosen, write=not dry_run, progress=progress))
    show([asdict(one) for one in made], as_json=as_json, empty="no partition is cold")
    begun = [one for one in made if not one.complete]
    if begun and not as_json:
        typer.echo(
            f"{len(begun)} of these begin where the telemetry topic does, what came before is "
            "gone: their baselines know less than they did"
        )
