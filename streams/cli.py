"""The ``plimsoll`` command, put together from the entry points ``plimsoll.commands``.

A sub-command is loaded when it is called, so that the collector on every host never imports
what only judges need. Exit codes: 0 it worked; 1 it failed, or found something wrong; 2 it
was called or configured wrongly.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
import typer
from typer.core import TyperCommand, TyperGroup

from models.errors import ConfigurationError, PlimsollError
from models.part import Part
from streams.lean import become, code_of, line_of, without

if TYPE_CHECKING:
    from streams.settings import Logs

COMMANDS: Final = "plimsoll.commands"

_SEE, _RUN, _WORK, _SET = "Try", "Run the parts", "Work with what they find", "Set up"
LISTED: Final = {
    "demo": (_SEE, "A simulated fleet, attacked and answered, on a broker of its own"),
    "up": (_RUN, "All parts on this machine, on a real Kafka and its container engine"),
    "collect": (_RUN, "Collector: what this host's containers do, to Kafka"),
    "gather": (_RUN, "Regroup all hosts' frames into batches per image"),
    "worker": (_RUN, "Judge: hold the baselines, score what departs from them"),
    "govern": (_RUN, "Governor: incidents, policy, signed orders, evidence"),
    "respond": (_RUN, "Responder: carry out orders here, verify them, undo them in time"),
    "archive": (_RUN, "Archive: topics to Parquet files by day, for queries and reports"),
    "alerts": (_WORK, "Follow the public alerts"),
    "incident": (_WORK, "List, show, approve, release, dismiss, verify, report"),
    "train": (_WORK, "Train a model on a past window, try it, announce it as a candidate"),
    "models": (_WORK, "List, show, compare, promote, roll back, retire models"),
    "replay": (_WORK, "Judge a past window again with any model, policy or budget"),
    "explain": (_WORK, "Why a container was found: values, what is normal, siblings, facts"),
    "baseline": (_WORK, "Show, compare and export what is normal of an image"),
    "rebuild": (_WORK, "Restore what workers had learned, from the telemetry"),
    "query": (_WORK, "Ask the archive in SQL: tables, CSV or JSON"),
    "report": (_WORK, "Reports from the archive: usage by image, host and team"),
    "evaluate": (_WORK, "Judge labelled histories: how good is detection?"),
    "topics": (_SET, "Create, list and compare the topics"),
    "keys": (_SET, "Make, rotate, revoke and list the keys that are trusted"),
    "config": (_SET, "Show the settings in force and where each comes from"),
    "doctor": (_SET, "What is wrong with the deployment, seen from here, and what to do"),
    "version": (_SET, "Print the version"),
}
"""Panel and line of ``plimsoll --help``, so that listing commands loads none of them."""


class LazyCommands(TyperGroup):
    """A group whose commands are entry points."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        found = set(super().list_commands(ctx)) | set(_entries())
        known = [name for name in LISTED if name in found]
        return known + sorted(found - LISTED.keys())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if self._listing and cmd_name in LISTED:
            panel, line = LISTED[cmd_name]
            return TyperCommand(cmd_name, help=line, rich_help_panel=panel)
        if (entry := _entries().get(cmd_name)) is not None:
            return _loaded(entry)
        return super().get_command(ctx, cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def _begin(returned: Any, **_: Any) -> None:
    """A command that returned a part is over; the part takes its place."""
    if isinstance(returned, Part):
        become(returned, _logs())


app = typer.Typer(
    cls=LazyCommands,
    result_callback=_begin,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.callback()
def plimsoll(
    config: Annotated[
        Path | None,
        typer.Option(envvar="PLIMSOLL_CONFIG", help="Settings file (TOML).", show_default=False),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="The least that is said.", show_default=False),
    ] = None,
) -> None:
    """Plimsoll draws the load line for every container image, says when one container or
    host leaves that line, acts within seconds, and proves that the act worked.

    Settings: flags, then PLIMSOLL_… variables, the settings file, defaults.

    Exit codes: 0 it worked · 1 it failed, or found something wrong ·
    2 it was called or configured wrongly.
    """
    for name, value in (("PLIMSOLL_CONFIG", config), ("PLIMSOLL_LOGS__LEVEL", log_level)):
        if value is not None:
            os.environ[name] = str(value)  # where every command, and `up`'s children, look
    with without("rich"):
        from streams.meters import configure_logs

    logs = _logs()
    configure_logs(logs.level, logs.form)


def _logs() -> Logs:
    from streams.settings import Logs, load

    try:
        return load().logs
    except ConfigurationError:
        return Logs()  # the command itself tells the faults of what it reads


@app.command("version")
def print_version() -> None:
    """Print the version."""
    typer.echo(version("plimsoll"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    A PlimsollError ends as one line on standard error; with ``--json`` among the arguments
    as one JSON document on standard output.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="plimsoll")
    except PlimsollError as problem:
        _tell(problem, as_json="--json" in given)
        sys.exit(code_of(problem))


def _tell(problem: PlimsollError, *, as_json: bool) -> None:
    if as_json:
        body = {"error": {"kind": type(problem).__name__, "message": str(problem)}}
        typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
        return
    typer.echo(line_of(problem), err=True)


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=COMMANDS)}


def _loaded(entry: EntryPoint) -> Any:
    """The command that an entry point names: a typer.Typer, or a function.

    Raises: ConfigurationError when it can't be loaded, with the cause.
    """
    try:
        found: typer.Typer | Callable[..., Any] = entry.load()
    except (ImportError, AttributeError) as problem:
        raise ConfigurationError(
            f"sub-command {entry.name!r} ({entry.value}) can't be loaded: {problem}; "
            "install the package that offers it anew"
        ) from problem
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer()
        found.command(entry.name)(function)
    found.pretty_exceptions_enable = False
    found._add_completion = False  # noqa: SLF001  # typer offers it to the constructor only
    command = typer.main.get_command(found)
    command.name = entry.name
    return _flowing(command)


def _flowing(command: Any) -> Any:
    """With paragraphs that flow: the terminal's width breaks lines, not the source's."""
    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(" ".join(one.split()) for one in paragraphs)
    for inner in getattr(command, "commands", {}).values():
        _flowing(inner)
    return command


if __name__ == "__main__":
    main()
