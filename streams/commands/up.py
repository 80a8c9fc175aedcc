"""``plimsoll up``: all parts on this machine, under one supervisor."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from models.contract import Topics
from models.errors import ConfigurationError
from streams import keys
from streams.commands.topics import settle
from streams.settings import Settings, Up, load
from streams.supervisor import Part, Patience, Supervisor
from streams.topics import Cluster, plan

COLOURS = {
    "collect": "cyan",
    "gather": "blue",
    "worker": "magenta",
    "govern": "yellow",
    "respond": "green",
    "archive": "white",
}


def command(
    parts: Annotated[
        str | None, typer.Option(help="Only these, e.g. gather,worker.", show_default="all")
    ] = None,
) -> None:
    """Run collector, gather, worker, governor, responder and archive here, until Ctrl-C.

    Creates topics and keys that are missing, starts again what dies, and stops the parts in
    the order in which records flow. Needs a Kafka and a container engine; the governor's
    mode is observe unless set otherwise.
    """
    settings = load(up={"parts": _chosen(parts)})
    say = _printer()
    prepare(settings, say)
    if settings.logs.form == "auto" and sys.stdout.isatty():
        os.environ["PLIMSOLL_LOGS__FORM"] = "text"  # the parts write to us, we to a terminal
    chosen = settings.up
    patience = Patience(chosen.restart_after_s, chosen.restart_after_most_s, chosen.stop_within_s)
    supervisor = Supervisor([_part(name) for name in chosen.parts], say, patience)
    raise typer.Exit(asyncio.run(_run(supervisor)))


def prepare(settings: Settings, say: Callable[[str, str], None]) -> None:
    """Topics and keys, where there are none.

    Raises: BrokerUnreachable; ConfigurationError when a topic that exists can't be used.
    """
    planned = plan(Topics(settings.topic_prefix), settings.topics)
    done, remain = settle(Cluster(settings.kafka), planned, update=False, dry_run=False)
    for topic, what in done:
        say("up", f"topic {topic} {what}")
    for one in remain:
        say("up", f"topic {one.topic}: {one.what} is {one.found}, planned {one.planned}")
    for made in keys.ensure(settings.keys_dir, time.time_ns()):
        say("up", f"key {made} made in {settings.keys_dir}")


def _chosen(parts: str | None) -> tuple[str, ...] | None:
    """In the order of the default, whatever the order asked for."""
    if parts is None:
        return None
    asked = {name.strip() for name in parts.split(",") if name.strip()}
    known = Up().parts
    if strange := sorted(asked - set(known)):
        raise ConfigurationError(
            f"--parts: there is no {', '.join(strange)}; choose from {', '.join(known)}"
        )
    return tuple(name for name in known if name in asked)


def _part(name: str) -> Part:
    return Part(name, (sys.executable, "-m", "streams", name))


def _printer() -> Callable[[str, str], None]:
    console = Console(highlight=False, soft_wrap=True)

    def say(name: str, line: str) -> None:
        console.print(Text(f"{name:>8} │ ", style=COLOURS.get(name, "bold")) + Text(line))

    return say


async def _run(supervisor: Supervisor) -> int:
    return await supervisor.run()
