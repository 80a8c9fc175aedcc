"""``plimsoll topics acls``: what to grant to whom, as Kafka's own tool takes it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Final

import typer

from models.errors import ConfigurationError
from models.permissions import PARTS, Names, Permission, permissions
from streams.commands.config import everything
from streams.commands.output import AsJson, print_json
from streams.permitted import names_of

PRINCIPAL: Final = "User:plimsoll-{part}"


def acls(
    parts: Annotated[
        list[str] | None, typer.Argument(help="Only these.", show_default="all of them")
    ] = None,
    principal: Annotated[
        str, typer.Option(help="Whom the broker takes a part for; {part} is its name.")
    ] = PRINCIPAL,
    command_config: Annotated[
        str, typer.Option(help="The administrator's properties file, for kafka-acls.sh.")
    ] = "admin.properties",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The table of docs/security.md.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What each part may do to Kafka, and no more: kafka-acls.sh commands to run.

    Topics and groups are named as the settings name them. Nothing is asked of Kafka, and
    nothing changed.
    """
    settings = everything()
    chosen, names = chosen_parts(parts), names_of(settings)
    if markdown:
        typer.echo("\n".join(table(names)))
    elif as_json:
        print_json([
            {"part": part, "principal": principal.format(part=part), **asdict(one)}
            for part in chosen for one in permissions(part, names)
        ])  # fmt: skip  # one document
    else:
        whom = ("--bootstrap-server", settings.kafka.bootstrap, "--command-config", command_config)
        for part in chosen:
            for line in _commands(permissions(part, names), principal.format(part=part)):
                typer.echo(shlex.join(("kafka-acls.sh", *whom, "--add", *line)))


def chosen_parts(parts: Sequence[str] | None) -> tuple[str, ...]:
    """Raises: ConfigurationError when one is no part."""
    if strange := sorted(set(parts or ()) - PARTS.keys()):
        raise ConfigurationError(
            f"there is no part {', '.join(strange)}; choose from {', '.join(PARTS)}"
        )
    return tuple(part for part in PARTS if not parts or part in parts)


def table(names: Names) -> Iterator[str]:
    """The same for people, as Markdown."""
    yield "| part | may | topics and groups |"
    yield "|---|---|---|"
    for part in PARTS:
        for number, (operations, held) in enumerate(_grouped(permissions(part, names))):
            named = ", ".join(
                f"`{one.name}`" + (" (group)" if one.kind == "group" else "") for one in held
            )
            yield f"| {'' if number else part} | {', '.join(operations)} | {named} |"


def _commands(may: Sequence[Permission], principal: str) -> Iterator[tuple[str, ...]]:
    """One a set of operations: kafka-acls.sh takes a second each."""
    for operations, held in _grouped(may):
        asked = [word for operation in operations for word in ("--operation", operation)]
        about = [word for one in held for word in (f"--{one.kind}", one.name)]
        yield ("--allow-principal", principal, *asked, *about)


def _grouped(may: Sequence[Permission]) -> Iterator[tuple[Sequence[str], list[Permission]]]:
    ordered = sorted(may, key=lambda one: (one.kind == "group", one.operations))
    for (_, operations), held in groupby(
        ordered, key=lambda one: (one.kind == "group", one.operations)
    ):
        yield operations, list(held)
