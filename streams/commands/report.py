"""``plimsoll report``: reports from the archive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from streams.commands.output import AsJson, print_json

command = typer.Typer(help="Reports from the archive.", no_args_is_help=True)


@command.callback()
def report() -> None:
    """Reports from the archive."""


@command.command()
def usage(
    days: Annotated[
        float, typer.Option(min=1 / 1440, max=3_650, help="How far back, from the newest sample.")
    ] = 7.0,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("usage.html"),
    csv: Annotated[Path | None, typer.Option(help="Every figure as CSV, to this file.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="The archive's folder; else archive_dir.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Who consumes what: by image, host and team; growth, waste against limits, top movers.

    One HTML file that opens anywhere. What can't be known yet is said in it.
    """
    from streams.report import usage_page
    from streams.report.usage import usage_of
    from streams.settings import load

    settings = load(archive_dir=directory)
    made = datetime.now(UTC).replace(tzinfo=None)
    labels, lasting = settings.archive.team_labels, timedelta(days=days)
    found = usage_of(settings.archive_dir, labels, lasting, made)
    out.write_text(usage_page.page(found))
    if csv is not None:
        csv.write_text(usage_page.as_csv(found))
    if as_json:
        print_json({"report": str(out), **usage_page.as_json(found)})
        return
    for path in (out, csv) if csv else (out,):
        typer.echo(str(path))
    for one in found.unknown:
        typer.echo(f"not known yet: {one}")
