"""How commands print rows: a table for a person, one JSON document for a machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "nothing") -> None:
    """Print rows that have the same fields."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        typer.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    # Piped, a table is as wide as it needs: a line that wraps is two lines to grep.
    console = Console(width=None if sys.stdout.isatty() else 400)
    console.print(table)


def print_json(body: Any) -> None:
    """One JSON document, indented."""
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2, default=str).decode())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else escape(str(value))
