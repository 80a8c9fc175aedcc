"""``plimsoll respond``: the responder beside a container runtime."""

from __future__ import annotations

from typing import Annotated

import typer

from models.part import Part


def command(
    platform: Annotated[
        str | None, typer.Option(help="Container runtime, by its name among the responders.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Machine id whose orders to carry out; else this one's.")
    ] = None,
) -> Part:
    """Responder: carry out signed orders here, verify them, undo them in time.

    Goes on where it was interrupted, and without Kafka ends what is due.
    Runs until SIGTERM; what is in force then stays so until it runs again.
    """
    from streams.settings import load

    settings = load(responder={"platform": platform, "host": host})
    return Part("respond", "streams.responders.process:respond", settings)
