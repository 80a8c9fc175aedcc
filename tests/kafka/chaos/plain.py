"""A Faust worker as Faust's own guide shows it, with a table: the control of the experiment.

``RECOVERY`` is ``stock``, or ``impatient``: the flow is stopped before the seek, but the fetch
under way is not waited for. ``WIDEN_S`` makes the window between seek and resume longer. Every
event that the agent gets is a line in a file, and so is each second what the recovery does.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


class Impatient(Recovery):
    """Nothing is fetched while positions move, or so it seems."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        self.app.consumer.stop_flow()  # super() resumes it after the seek
        await super().on_recovery_completed(generation_id)


class ImpatientTables(TableManager):
    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = Impatient(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


def widen(wide_s: float) -> None:
    seek: Any = Recovery._seek_offsets

    async def widened(*args: Any) -> None:
        await seek(*args)
        await asyncio.sleep(wide_s)

    Recovery._seek_offsets = widened  # type: ignore[assignment]  # the window itself is tried


def build(job: dict[str, Any]) -> faust.App:
    """The app of one job; all but the times and the table's manager is Faust's default."""
    chosen: Any = {"TableManager": ImpatientTables} if job["recovery"] == "impatient" else {}
    app = faust.App(
        job["group"], broker=f"kafka://{job['bootstrap']}", store="memory://",
        topic_partitions=job["partitions"], topic_replication_factor=1, web_enabled=False,
        datadir=job["directory"], consumer_auto_offset_reset="earliest",
        table_standby_replicas=0, broker_commit_interval=0.5, broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0, producer_linger=0.02, **chosen,
    )  # fmt: skip  # by subject
    source = app.topic(job["source"], key_serializer="raw", value_serializer="raw")
    counts = app.Table("counts", default=None, key_type=bytes, value_type=bytes)
    log = Path(job["log"]).open("a", buffering=1)  # noqa: SIM115  # for as long as the worker lives

    @app.agent(source)
    async def count(stream: Any) -> None:
        async for event in stream.events():
            before = int(counts.get(event.key) or 0)
            counts[event.key] = b"%d" % (before + 1)
            await asyncio.sleep(0.002)
            log.write(f"seen {event.message.partition} {event.message.offset}\n")

    @app.timer(1.0)  # type: ignore[untyped-decorator]  # Faust's own
    async def tell() -> None:
        tables: Any = app.tables
        left = sum(tables.recovery.active_remaining().values())
        log.write(f"recovery {os.getpid()} {int(app.in_recovery)} {left}\n")

    return app


def main() -> None:
    job = json.loads(os.environ["JOB"])
    if job["widen_s"]:
        widen(job["widen_s"])
    app = build(job)
    faust.Worker(
        app, loglevel="WARNING", quiet=True, redirect_stdouts=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main()
