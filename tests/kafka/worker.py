"""A worker under test: counts events per key, one output an event, on the real delivery.

Started as a process: ``python -m tests.kafka.worker``; what it does is in JOB, as JSON. The
one process that a test can kill at a stated instant.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import struct
import time
from collections.abc import Iterable
from typing import Any

import faust
from faust.tables.manager import TableManager

from models.errors import MalformedRecord
from streams.delivery import app as delivery
from streams.delivery.consumer import LeanConsumer
from streams.delivery.late import LateTable
from streams.delivery.rejected import Rejects
from streams.meters import Meters
from streams.tables import Rows

State = tuple[int, int]
"""How many events, and the sum of their offsets: what order or loss would change."""

POISON = b"poison"
FATAL = b"fatal"
STUCK = b"stuck"
BLOCKED = b"blocked"


def pack(state: State) -> dict[str, bytes]:
    """Two rows, so that a write can be torn between them."""
    if state[0] >= int(os.environ.get("UNPACKABLE", "1000000")):
        raise ValueError("the state cannot be packed")
    return {"n": struct.pack(">Q", state[0]), "s": struct.pack(">Q", state[1])}


def unpack(rows: dict[str, bytes]) -> State:
    return struct.unpack(">Q", rows["n"])[0], struct.unpack(">Q", rows["s"])[0]


def decoded(value: bytes) -> bytes:
    if value == POISON:
        raise MalformedRecord("undecodable", "not a record", "payload")
    return value


def build(job: dict[str, Any]) -> faust.App:
    """The app for one job; ``stock`` takes Faust's own recovery, as a control."""
    app = delivery.make_app(
        job["group"],
        delivery.Delivery(
            job["bootstrap"],
            commit_interval_s=job.get("commit_interval_s", 0.3),
            session_timeout_s=job.get("session_timeout_s", 2.5),
            heartbeat_s=0.5,
            may_create_topics=job.get("may_create_topics", True),
        ),
    )
    if job.get("stock"):
        settings: Any = app.conf
        settings.TableManager = TableManager
    source = app.topic(job["source"], key_serializer="raw", value_serializer="raw")
    table = delivery.make_table(app, "counts", job["partitions"])
    rows = Rows(table, pack, unpack, [job["source"]])
    outbox = delivery.outbox_of(app)
    rejects = Rejects(outbox, job["rejected"], by="test")
    nap_s = job.get("nap_s", 0.0)

    async def count(stream: Any) -> None:
        async for events in stream.batches(most=job.get("most", 100)):
            if "batches" in job:
                note(job["batches"], events)
            states: dict[str, State] = {}
            last: dict[str, Any] = {}
            for event in events:
                await misbehave(event.message.value)
                group = event.message.key.decode()
                if rows.seen(event, group):
                    continue
                if await rejects.decoded(event, decoded) is not None:
                    place = b"%d,%d" % (event.message.partition, event.message.offset)
                    await outbox.send(job["outputs"], event.message.key, place)
                n, total = states.get(group) or rows.get(group) or (0, 0)
                states[group], last[group] = (n + 1, total + event.message.offset), event
            await asyncio.sleep(nap_s)
            for group, state in states.items():
                rows.keep(last[group], group, state, last[group].message.offset)

    app.agent(source, name="count")(count)
    instrument(app, table, job)
    return app


def instrument(app: faust.App, table: LateTable, job: dict[str, Any]) -> None:
    if "kill_after_phase" in job:
        table.after_phase = killer(job["kill_after_phase"], job["flag"])
    if os.environ.get("HALF") == "1":
        join_with_half()
    if os.environ.get("STOPPED") == "1":
        stop_while_starting(app)
    if os.environ.get("SLEEPER") == "1":
        sleep_in_commit(delivery.outbox_of(app))
    if "widen_s" in job:
        widen(app, job["widen_s"])


def join_with_half() -> None:
    """Subscribe to the source alone, as releases did that were stopped while they started."""

    async def subscribe(self: LeanConsumer, topics: Iterable[str]) -> None:
        source = [topic for topic in topics if not topic.endswith("-changelog")]
        await super(LeanConsumer, self).subscribe(source)

    LeanConsumer.subscribe = subscribe  # type: ignore[method-assign]  # on purpose


def stop_while_starting(app: faust.App) -> None:
    """Told to stop just before its tables register."""
    tables: Any = app.tables
    start = tables.on_start

    async def stopped() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await start()

    tables.on_start = stopped


def note(path: str, events: list[Any]) -> None:
    """A line for each batch: how many partitions it has events of."""
    with open(path, "a") as told:  # noqa: PTH123  # as in killer()
        told.write(f"{len({event.message.partition for event in events})}\n")


async def misbehave(value: bytes) -> None:
    if value == FATAL and os.environ.get("FATAL") == "1":
        raise RuntimeError("the body failed")
    if value == STUCK and os.environ.get("STUCK") == "1":
        await asyncio.Event().wait()
    if value == BLOCKED and os.environ.get("BLOCKED") == "1":
        time.sleep(3600)  # noqa: ASYNC251  # a loop that some call blocks is what is tested


def killer(phase: int, flag: str) -> Any:
    """Kill this process right after a phase is durable, once for the flag file."""

    def after(number: int) -> None:
        if number == phase and not os.path.exists(flag):  # noqa: PTH110  # one stat in a hot path
            with open(flag, "w"):  # noqa: PTH123  # as above
                os.kill(os.getpid(), signal.SIGKILL)

    return after


def sleep_in_commit(outbox: Any) -> None:
    """Suspend this process in its second commit, between its outputs and its rows."""
    delivered, times = outbox.delivered, itertools.count(1)

    async def then_sleep() -> None:
        await delivered()
        if next(times) == 2:
            os.kill(os.getpid(), signal.SIGSTOP)

    outbox.delivered = then_sleep


def widen(app: faust.App, wide_s: float) -> None:
    """Make the window longer in which positions have moved and the flow is not resumed."""
    tables: Any = app.tables
    recovery = tables.recovery
    seek = recovery._seek_offsets

    async def widened(*args: Any) -> None:
        await seek(*args)
        await asyncio.sleep(wide_s)

    recovery._seek_offsets = widened


def main() -> None:
    job = json.loads(os.environ["JOB"])
    meters = Meters()
    vital = delivery.Vital(meters.took, meters.recovery_s.observe)
    meters.serve(job.get("metrics_port", 0), vital.state)
    patience_s = job.get("patience_s", 60.0)
    delivery.run(build(job), patience_s=patience_s, loglevel="WARNING", vital=vital)


if __name__ == "__main__":
    main()
