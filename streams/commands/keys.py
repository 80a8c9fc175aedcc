"""``plimsoll keys``: make, rotate, revoke and list the keys that are trusted."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from streams import keys
from streams.commands.output import AsJson, show
from streams.keys import Role, TrustedKey
from streams.settings import load

command = typer.Typer(
    help="Make, rotate, revoke and list the keys that are trusted.", no_args_is_help=True
)

Directory = Annotated[
    Path | None,
    typer.Option("--dir", help="Where the keys lie; else keys_dir of the settings."),
]
Days = Annotated[float, typer.Option(min=0.0, help="How long it counts; 0: without end.")]


@command.command()
def init(directory: Directory = None, as_json: AsJson = False) -> None:
    """Make what one machine needs: a governor's key, an operator's, the deployment's.

    Nothing that exists is touched.
    """
    place = _place(directory)
    made = keys.ensure(place, time.time_ns())
    rows = [{"made": name, "in": str(place)} for name in made]
    show(rows, as_json=as_json, empty=f"nothing to do: {place} has them all")


@command.command()
def create(
    name: str,
    role: Annotated[Role, typer.Option(help="What this key may sign.")],
    days: Days = 0.0,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Make a key pair: NAME.key (private, keep it) and a line in trusted.json (copy it)."""
    made = keys.create(_place(directory), name, role, time.time_ns(), days * 86_400)
    show([_row(made)], as_json=as_json)


@command.command()
def rotate(
    name: str,
    overlap_hours: Annotated[
        float, typer.Option(min=0.0, help="How long the old key still counts.")
    ] = 24.0,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Replace NAME's key; both count during the overlap.

    Copy trusted.json to every host that verifies, then restart who signs.
    """
    made = keys.rotate(_place(directory), name, time.time_ns(), overlap_hours * 3600)
    show([_row(made)], as_json=as_json)


@command.command()
def revoke(key: str, directory: Directory = None, as_json: AsJson = False) -> None:
    """From now on KEY (as `plimsoll keys list` prints it) counts for nothing."""
    show([_row(keys.revoke(_place(directory), key, time.time_ns()))], as_json=as_json)


@command.command("list")
def list_keys(directory: Directory = None, as_json: AsJson = False) -> None:
    """The keys that are trusted, and whether this machine can sign with them."""
    place, now_ns = _place(directory), time.time_ns()
    rows = [
        {**_row(key), "counts": key.counts_at(now_ns), "signs_here": _signs_here(place, key)}
        for key in keys.read_trusted(place)
    ]
    empty = f"no keys in {place}: `plimsoll keys init` makes them"
    show(rows, as_json=as_json, empty=empty, wide=("from",))


def _place(directory: Path | None) -> Path:
    return load(keys_dir=directory).keys_dir


def _signs_here(place: Path, key: TrustedKey) -> bool:
    if not keys.private_file(place, key.name).exists():
        return False
    return keys.Signer.load(place, key.name).key == key.key


def _row(key: TrustedKey) -> dict[str, object]:
    return {
        "key": key.key,
        "role": key.role.value,
        "from": _day(key.from_ns),
        "until": _day(key.until_ns) if key.until_ns else "without end",
    }


def _day(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="seconds")
