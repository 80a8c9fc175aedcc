"""``plimsoll query``: SQL over the archive."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from streams.commands.output import AsJson, print_json, show

MOST_SHOWN: Final = 200
"""Rows of a table on a terminal; more are better read as CSV."""


def command(
    sql: Annotated[str, typer.Argument(help="One SELECT; - reads it from standard input.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="The archive's folder; else archive_dir.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the archive in SQL (DuckDB); it is read, never written.

    Tables: SHOW TABLES. Columns of one: DESCRIBE samples. All times are UTC.
    """
    from streams.archive.views import asked, opened, rows
    from streams.settings import load

    settings = load(archive_dir=directory)
    connection = opened(settings.archive_dir, settings.archive.team_labels)
    result = asked(connection, sys.stdin.read() if sql == "-" else sql)
    names = _distinct([column[0] for column in result.description or ()])
    found = ([plain(value) for value in row] for row in rows(result))
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in found])
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows([_text(value) for value in row] for row in found)
    else:
        _table(names, found)


def _table(names: Sequence[str], found: Iterable[Sequence[Any]]) -> None:
    given = iter(found)
    few = list(islice(given, MOST_SHOWN))
    cells = [dict(zip(names, (_text(value) for value in row), strict=True)) for row in few]
    show(cells, as_json=False, empty="no rows")
    if left := sum(1 for _ in given):
        typer.echo(f"{left} more rows: LIMIT them, or read all with --csv or --json", err=True)


def plain(value: Any) -> Any:
    """A value of DuckDB as JSON has it.

    >>> plain({"a": (Decimal("1.5"), b"ok")})
    {'a': [1.5, 'ok']}
    """
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return _readable(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


def _readable(value: bytes) -> str:
    """Text where it is text, else hexadecimal digits."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str).decode()
    return str(value)


def _distinct(names: Iterable[str]) -> list[str]:
    """Column names, told apart where two are the same.

    >>> _distinct(["n", "n", "m"])
    ['n', 'n_2', 'm']
    """
    made: list[str] = []
    for name in names:
        number = 1
        while (called := name if number == 1 else f"{name}_{number}") in made:
            number += 1
        made.append(called)
    return made
