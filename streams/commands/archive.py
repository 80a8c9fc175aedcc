"""``plimsoll archive``: topics to Parquet files by day."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer


def command(
    directory: Annotated[
        Path | None, typer.Option("--dir", help="The archive's folder; else archive_dir.")
    ] = None,
    lot_s: Annotated[
        float | None, typer.Option(help="Seconds of the log in one set of files.")
    ] = None,
) -> None:
    """Archive: topics to Parquet files by day, for queries and reports.

    Goes on where the archive ends, whatever happened before: offsets stand in the archive
    itself. One process a folder. Runs until SIGTERM; what was read is archived then.
    """
    from models.permissions import permissions
    from streams.archive.layout import Archive
    from streams.archive.loop import Archiver
    from streams.meters import ArchiveMeters, bound
    from streams.permitted import names_of, permitted
    from streams.settings import load

    settings = load(archive_dir=directory, archive={"lot_s": lot_s})
    bound(part="archive")
    meters = ArchiveMeters()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    may = permitted(settings.kafka, permissions("archive", names_of(settings)))
    with may, Archive(settings.archive_dir) as archive:
        archiver = Archiver(settings, archive, meters, time.time_ns)
        meters.serve(settings.archive.metrics_port, archiver.pulse.state)
        archiver.run(stopping)
