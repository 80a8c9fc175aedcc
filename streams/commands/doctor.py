"""``plimsoll doctor``: what is wrong with a deployment, seen from this machine."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from streams.commands.output import AsJson, print_json, show


def command(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="The parts that run here, with these settings.", show_default="up's"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong, seen from this machine, and say what to do.

    Address, TLS, login, topics, rights, clock, container engine, folders and keys, for the
    parts named and the identity that the settings give. Changes nothing. Exit code 1 when
    something is wrong; what could not be looked at is told, and is no fault.
    """
    from streams.commands.acls import chosen_parts
    from streams.commands.config import everything
    from streams.doctor import CHECKS
    from streams.doctor.base import Case, State, examine
    from streams.permitted import names_of

    settings = everything()
    case = Case(
        settings, chosen_parts(parts or settings.up.parts), names_of(settings), time.time_ns
    )
    found = list(examine(case, CHECKS))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        asks = {check.name: check.asks for check in CHECKS}
        rows = [
            {
                "check": one.check, "": one.state.value, "about": one.about,
                "found": one.problem or asks[one.check].rstrip("?"), "do": one.todo,
            }
            for one in found
        ]  # fmt: skip  # a row a finding
        show(rows, as_json=False, folds="do")
    if any(one.state is State.FAULT for one in found):
        raise typer.Exit(1)
