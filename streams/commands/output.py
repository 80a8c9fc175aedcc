"""How commands print rows: a table for a person, one JSON document for a machine."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

PIPED: Final = 400
UNBOUNDED: Final = 10_000
FOLDED: Final = 12
"""Columns that a folded one needs at least, and what stands between it and the next."""

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def show(
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    empty: str = "nothing",
    wide: Collection[str] = (),
    folds: str = "",
) -> None:
    """Print rows that have the same fields; ``wide`` ones only where there is room for all,
    while the one that ``folds`` may take several lines.
    """
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        typer.echo(empty)
        return
    # Piped, a table is as wide as it needs: a line that wraps is two lines to grep.
    console = Console(width=None if sys.stdout.isatty() else PIPED)
    console.print(_fitting(rows, wide, folds, console))


def _fitting(
    rows: Sequence[Mapping[str, Any]], wide: Collection[str], folds: str, console: Console
) -> RenderableType:
    """A table, without its wide columns where it must be; else a block of lines a row."""
    narrow = _without(rows, wide)
    if _width(console, rows) <= console.width:
        return _table(rows)
    if _width(console, narrow) <= console.width:
        return _table(narrow)
    if folds and _width(console, _without(narrow, (folds,))) + FOLDED <= console.width:
        return _table(narrow)
    return _blocks(rows)


def _without(rows: Sequence[Mapping[str, Any]], names: Collection[str]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name not in names} for row in rows]


def _width(console: Console, rows: Sequence[Mapping[str, Any]]) -> int:
    """What it would take to have each row on one line."""
    unbounded = console.options.update(max_width=UNBOUNDED)
    return Measurement.get(console, unbounded, _table(rows)).maximum


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _blocks(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            table.add_row()
        for name, value in row.items():
            table.add_row(name.replace("_", " "), _cell(value))
    return table


def print_json(body: Any) -> None:
    """One JSON document, indented."""
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2, default=str).decode())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else escape(str(value))
