"""The demonstration's twelve containers on this machine's Docker engine, watched by the whole line
on a real Kafka and learned, for whatever is to befall them then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from infra.demo import machine
from infra.demo.containers import PARTNER, PORT, STRANGER, Troupe
from infra.demo.deployment import Deployment
from infra.demo.remote import RemoteHosts
from infra.demo.telling import Telling
from streams.demo.notes import Notes
from streams.demo.view import View

MIRROR: Final = 20
"""The remote host from which the host fetches what it installs."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is there before anybody watches. ``scratch`` goes away with it."""

    client: Any
    troupe: Troupe
    remote: RemoteHosts
    scratch: Path


def told(
    play: Callable[[Place, Telling, Notes], int], beside: Callable[[Place], None] | None = None
) -> int:
    """The exit code that ``play`` gives, or 2 where it can't be told here. ``beside`` puts others
    beside the twelve before they are learned; what bears the troupe's name goes with it.
    """
    try:
        machine.check()
    except machine.DemoUnavailable as problem:
        sys.stderr.write(f"it can't be told here: {problem}\n")
        return 2
    run = machine.new_run()
    with machine.engine() as client, ExitStack() as undo:
        undo.enter_context(machine.directory(run.scratch))
        undo.enter_context(machine.flow_accounting())
        hosts = (PARTNER, STRANGER, MIRROR)
        remote = undo.enter_context(RemoteHosts(run.name, hosts, (PORT,)))
        troupe = undo.enter_context(Troupe(client, run.name, remote, run.scratch / "stage"))
        place = Place(client, troupe, remote, run.scratch)
        if beside is not None:
            beside(place)
        deployment = undo.enter_context(Deployment(run.name, run.scratch, run.kept))
        notes = undo.enter_context(deployment.note_taker()).notes
        view = undo.enter_context(View(Console(stderr=True), notes, "real time"))
        telling = Telling(deployment, troupe, view)
        telling.warm_up()
        telling.train()
        return play(place, telling, notes)
