"""A table whose changelog is written late: once per key and commit, before the offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import faust
from faust.types import TP

MayWrite = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One changelog record; ``value`` None deletes the key."""

    partition: int
    key: bytes
    value: bytes | None


class Owed(Protocol):
    """Rows to be written, in phases: each is durable before the next begins."""

    @property
    def phases(self) -> tuple[tuple[Row, ...], ...]: ...


class Keeper(Protocol):
    """Who fills the table (streams.tables.Rows): the table asks when it is time to write."""

    def take_owed(self, generation: int) -> Owed: ...
    def settled(self, owed: Any) -> None: ...
    def put_back(self, owed: Any) -> None: ...
    def forget(self, keep: frozenset[int]) -> None: ...
    def recovered(self) -> None: ...
    def began(self, read: Mapping[tuple[str, int], bool]) -> None: ...
    def newer(self, old: bytes, new: bytes) -> bool: ...


class LateTable(faust.Table[bytes, bytes]):
    """Raw bytes in memory, filled by its keeper, equal to what the changelog says.

    A row enters the memory only after its changelog record is durable. So what is in memory
    can be rebuilt, and all of it: a partition that goes away takes its rows with it, those
    written here included (stock keeps these, and would read them as current when the
    partition comes back). For ``memory://`` only.
    """

    keeper: Keeper | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.after_phase: Callable[[int], None] = lambda _number: None
        self._write_lock = asyncio.Lock()

    @property
    def rows(self) -> dict[bytes, bytes]:
        """What the changelog says, partitions of ours only."""
        return cast("dict[bytes, bytes]", self.data.data)

    @property
    def partition_by_key(self) -> dict[bytes, int]:
        store: Any = self.data
        return cast("dict[bytes, int]", store._key_partition)

    # ---- writing ------------------------------------------------------------------------------

    def take_owed(self, generation: int) -> Owed | None:
        return self.keeper.take_owed(generation) if self.keeper is not None else None

    def put_back(self, owed: Owed | None) -> None:
        if owed is not None and self.keeper is not None:
            self.keeper.put_back(owed)

    async def write(self, owed: Owed | None, may_write: MayWrite) -> None:
        """Write phase after phase, each once the one before is durable.

        Raises: what ``may_write`` raises, asked before each phase, or the producer.
        """
        if owed is None or self.keeper is None:
            return
        for number, rows in enumerate(owed.phases):
            if rows:
                await may_write()
                await self._write(rows)
            self.after_phase(number)
        self.keeper.settled(owed)

    async def _write(self, rows: tuple[Row, ...]) -> None:
        send, topic = self.app.producer.send, self.changelog_topic_name
        handed = [await send(topic, row.key, row.value, row.partition, None, None) for row in rows]
        await asyncio.gather(*handed)
        for row in rows:
            self._apply(row.key, row.value, row.partition)

    def _apply(self, key: bytes, value: bytes | None, partition: int) -> None:
        if value is None:
            self.rows.pop(key, None)
            self.partition_by_key.pop(key, None)
        else:
            self.rows[key] = value
            self.partition_by_key[key] = partition

    # ---- reading back -----------------------------------------------------------------------

    def began(self, read: Mapping[tuple[str, int], bool]) -> None:
        """Reading goes on in these partitions; whether events of them were committed before."""
        if self.keeper is not None:
            self.keeper.began(read)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """The latest of each key, where a row that tells of an earlier offset is not later:
        a worker that had lost its session may have written it.
        """
        newer = self.keeper.newer if self.keeper is not None else lambda _old, _new: True
        for event in batch:
            key, value = event.message.key, event.message.value
            old = self.rows.get(key)
            if value is None or old is None or newer(old, value):
                self._apply(key, value, event.message.partition)

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        mine = frozenset(tp.partition for tp in assigned if tp.topic == self.changelog_topic_name)
        for key, partition in list(self.partition_by_key.items()):
            if partition not in mine:
                self._apply(key, None, partition)
        if self.keeper is not None:
            self.keeper.forget(mine)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        await super().on_recovery_completed(active_tps, standby_tps)
        if self.keeper is not None:
            self.keeper.recovered()
