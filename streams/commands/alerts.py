"""``plimsoll alerts``: follow the public alerts, as any subscriber would."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from models.records.verdict import Level
from streams.commands.output import AsJson
from streams.report.words import clean

command = typer.Typer(help="Follow the public alerts.", no_args_is_help=True)


@command.callback()
def alerts() -> None:
    """Follow the public alerts, as any subscriber would."""


@command.command()
def tail(
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="What the topic still holds first.")
    ] = False,
    level: Annotated[Level, typer.Option(help="Alerts of this level or above only.")] = Level.WATCH,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="End at the present end; do not wait for more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One line an alert, until interrupted; with --json one JSON object a line."""
    from models.contract import Topics
    from streams.settings import load
    from streams.stores.subscription import follow

    settings = load()
    topic = Topics(settings.topic_prefix).alerts
    for body in follow(settings.kafka, topic, from_beginning=from_beginning, until_end=until_end):
        if Level(body["unmapped"]["level"]).rank >= level.rank:
            typer.echo(orjson.dumps(body).decode() if as_json else line(body))


def line(body: dict[str, Any]) -> str:
    """An alert for a person: when, how bad, what changed, what happened."""
    when = datetime.fromtimestamp(body["time"] / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S")
    state = body["unmapped"]
    uid = body["finding_info"]["uid"]
    return clean(f"{when} {state['level']:<11} {state['stage']:<10} {uid} {body['message']}")
