"""``plimsoll topics``: create, list and compare the topics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from models.contract import Topics
from streams.commands.acls import acls
from streams.commands.output import AsJson, show
from streams.settings import Settings, load
from streams.topics import Cluster, Difference, Planned, compare, plan

command = typer.Typer(
    help="Create, list and compare the topics; print who may do what to them.",
    no_args_is_help=True,
)
command.command()(acls)

Replication = Annotated[
    int | None, typer.Option(min=0, help="Copies of each partition; 0: the broker's default.")
]
Partitions = Annotated[int | None, typer.Option(min=1, help="Of every keyed topic.")]


@command.command()
def create(
    replication: Replication = None,
    partitions: Partitions = None,
    update: Annotated[
        bool, typer.Option("--update", help="Set what differs in the configuration, too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, don't do it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create the topics that are missing; a second time changes nothing.

    Partitions of a topic that exists are never changed: keys would move away from what was
    learned about them. Exit code 1 when a difference remains.
    """
    settings, planned = _planned(replication, partitions)
    done, remain = settle(Cluster(settings.kafka), planned, update=update, dry_run=dry_run)
    rows = [{"topic": topic, "done": what} for topic, what in done]
    rows += [{"topic": one.topic, "done": f"left: {one.what} is {one.found}"} for one in remain]
    show(rows, as_json=as_json, empty=f"nothing to do: all {len(planned)} topics are as planned")
    if remain:
        raise typer.Exit(1)


@command.command("list")
def list_topics(as_json: AsJson = False) -> None:
    """Every topic as planned, and whether it is there."""
    settings, planned = _planned(None, None)
    found = Cluster(settings.kafka).find(planned)
    rows = [
        {
            "topic": one.name,
            "partitions": one.partitions,
            "cleanup": one.config["cleanup.policy"],
            "kept_days": int(one.config.get("retention.ms", 0)) // 86_400_000 or None,
            "there": one.name in found,
        }
        for one in planned
    ]
    show(rows, as_json=as_json)


@command.command()
def diff(
    replication: Replication = None, partitions: Partitions = None, as_json: AsJson = False
) -> None:
    """What is otherwise than planned; exit code 1 when something is."""
    settings, planned = _planned(replication, partitions)
    differences = compare(planned, Cluster(settings.kafka).find(planned))
    show(
        [asdict(one) for one in differences],
        as_json=as_json,
        empty=f"no difference in {len(planned)} topics",
    )
    if differences:
        raise typer.Exit(1)


def settle(
    cluster: Cluster, planned: tuple[Planned, ...], *, update: bool, dry_run: bool
) -> tuple[list[tuple[str, str]], list[Difference]]:
    """Create what is missing, with ``update`` set what differs; what was done, what remains."""
    by_name = {topic.name: topic for topic in planned}
    done: list[tuple[str, str]] = []
    remain: list[Difference] = []
    for one in compare(planned, cluster.find(planned)):
        if one.what == "topic":
            if not dry_run:
                cluster.create(by_name[one.topic])
            done.append((one.topic, "would be created" if dry_run else "created"))
        elif update and one.what != "partitions":
            if not dry_run:
                cluster.configure(one.topic, {one.what: one.planned})
            done.append((one.topic, f"{one.what}: {one.found} → {one.planned}"))
        else:
            remain.append(one)
    return done, remain


def _planned(
    replication: int | None, partitions: int | None
) -> tuple[Settings, tuple[Planned, ...]]:
    settings = load(topics={"replication": replication, "partitions": partitions})
    return settings, plan(Topics(settings.topic_prefix), settings.topics)
