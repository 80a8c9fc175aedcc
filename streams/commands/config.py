"""``plimsoll config``: the settings in force, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from models.errors import ConfigurationError
from models.settings import SECRET_NAMES, read_file, tell_faults, variable
from streams.commands.output import AsJson, print_json, show
from streams.meters import MASKED

command = typer.Typer(
    help="Show the settings in force and where each comes from.", no_args_is_help=True
)
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as documented, and as it stands."""

    place: Place
    about: str
    default: Any
    value: Any
    origin: str

    @property
    def name(self) -> str:
        return ".".join(self.place)


@command.command("show")
def show_settings(as_json: AsJson = False) -> None:
    """Every setting of every part: its value and its origin; secrets are masked."""
    found = [setting for settings in read_all() for setting in in_force(settings)]
    settings = {setting.name: setting for setting in found}.values()
    if as_json:
        print_json({s.name: {"value": s.value, "origin": s.origin} for s in settings})
        return
    rows = [{"setting": s.name, "value": _text(s.value), "from": s.origin} for s in settings]
    show(rows, as_json=False)


@command.command()
def check() -> None:
    """Read the settings of every part; exit 2 and name each fault, if there is one."""
    read_all()
    typer.echo("the settings can be used")


@command.command()
def docs(
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
) -> None:
    """The table of all settings, in Markdown: what docs/settings.md holds."""
    page = "\n".join(_page())
    if out is None:
        typer.echo(page)
        return
    try:
        out.write_text(page + "\n")
    except OSError as problem:
        raise ConfigurationError(
            f"--out {out}: {problem.strerror}; nothing was written"
        ) from problem


def settings_classes() -> tuple[type[BaseSettings], ...]:
    """What each part is told, from the entry points ``plimsoll.settings``."""
    found = sorted(entry_points(group="plimsoll.settings"), key=lambda entry: entry.name)
    return tuple(entry.load() for entry in found)


def in_force(settings: BaseSettings) -> Iterator[Setting]:
    """Every setting of one part, with its origin."""
    kind = type(settings)
    path = os.environ.get("PLIMSOLL_CONFIG")
    file = dict(_leaves(read_file(path, kind.model_fields.keys() | _everything())))
    environment = dict(_leaves(EnvSettingsSource(kind)()))
    for place, about, default in documented(kind):
        value = _value(settings, place)
        if SECRET_NAMES & set(place) and value:
            value = MASKED
        if place in environment:
            origin = f"environment {variable(place)}"
        else:
            origin = f"file {path}" if place in file else "default"
        yield Setting(place, about, default, value, origin)


def documented(kind: Any, under: Place = ()) -> Iterator[tuple[Place, str, Any]]:
    """Place, description and default of each setting, tables unfolded."""
    for name, field in _fields(kind).items():
        inner = field.annotation
        if isinstance(inner, type) and (issubclass(inner, BaseModel) or is_dataclass(inner)):
            yield from documented(inner, (*under, name))
        else:
            factory = field.default_factory
            default = f"`data_dir`/{_tail(name)}" if factory and name != "data_dir" else None
            yield (*under, name), field.description or "", default or _default(field)


def _fields(kind: type[Any]) -> Mapping[str, FieldInfo]:
    if issubclass(kind, BaseModel):
        found: Mapping[str, FieldInfo] = kind.model_fields
        return found
    described = TypeAdapter(kind).json_schema()["properties"]
    return {
        field.name: FieldInfo(
            default=field.default, description=described[field.name].get("description")
        )
        for field in fields(kind)
    }


def _default(field: FieldInfo) -> Any:
    return "" if field.default_factory else field.default


def _tail(name: str) -> str:
    defaults = {"spool_file": "spool.db", "responder_file": "responder.db"}
    return defaults.get(name, name.removesuffix("_dir"))


def read_all() -> tuple[BaseSettings, ...]:
    """The settings of every part. Raises: ConfigurationError with the faults of all."""
    read: list[BaseSettings] = []
    faults: dict[tuple[str | int, ...], Any] = {}
    for kind in settings_classes():
        try:
            read.append(kind())
        except ValidationError as found:
            faults |= {fault["loc"]: fault for fault in found.errors()}
        except SettingsError as found:
            raise ConfigurationError(f"environment: {found}: {found.__cause__}") from found
    if faults:
        raise ConfigurationError(tell_faults(faults.values()))
    return tuple(read)


def everything() -> SimpleNamespace:
    """The settings of all parts by name, wherever each is read.

    Raises: ConfigurationError with the faults of all.
    """
    read = {name: getattr(one, name) for one in read_all() for name in type(one).model_fields}
    return SimpleNamespace(**read)


def _everything() -> set[str]:
    return {name for kind in settings_classes() for name in kind.model_fields}


def _leaves(tree: Mapping[str, Any], under: Place = ()) -> Iterator[tuple[Place, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*under, name))
        else:
            yield (*under, name), value


def _value(settings: Any, place: Place) -> Any:
    for name in place:
        settings = getattr(settings, name)
    return str(settings) if isinstance(settings, Path) else settings


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _page() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Flags win over environment variables, these over the file that `--config` or"
    yield "`PLIMSOLL_CONFIG` names (TOML), and that over the defaults. `plimsoll config show`"
    yield "prints what is in force and where it comes from; `plimsoll config check` names faults."
    yield "This page is `plimsoll config docs --out docs/settings.md`."
    rows: dict[Place, tuple[str, Any]] = {}
    for kind in settings_classes():
        rows |= {place: (about, default) for place, about, default in documented(kind)}
    table = None
    for place, (about, default) in sorted(rows.items(), key=lambda row: (row[0][:-1], len(row[0]))):
        if place[:-1] != table:
            table = place[:-1]
            yield ""
            yield f"## `[{'.'.join(table)}]`" if table else "## At the top"
            yield ""
            yield "| setting | environment | default | what it is, and why so |"
            yield "|---|---|---|---|"
        told = " ".join(about.split()).replace("|", "\\|")
        shown = default if str(default).startswith("`data_dir`") else _quoted(default)
        yield f"| `{place[-1]}` | `{variable(place)}` | {shown} | {told} |"


def _quoted(default: Any) -> str:
    return f"`{_text(default)}`" if default not in ("", None) else "none"
