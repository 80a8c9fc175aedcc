"""The consumer's thread: how records come from the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiokafka.consumer.fetcher import FetchResult
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

if TYPE_CHECKING:
    import aiokafka

    from streams.delivery.consumer import LeanConsumer


WIDE: Final = 64
"""So many keys in a poll are judged together as cheaply as more."""


class LeanThread(driver.AIOKafkaConsumerThread):
    """Stock, but for the fetch wait, wider polls, and a lease that each heartbeat renews."""

    consumer: LeanConsumer
    _partitions = 16
    """From so many at once: enough for :data:`WIDE`, and not many more."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)  # not started yet
        # Faust hard-codes 1500 ms, and a partition without news then holds up the others.
        consumer._fetch_max_wait_ms = self.consumer.fetch_wait_ms
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        self.consumer.lease.watch(self._ensure_consumer()._coordinator)

    async def _fetch_records(
        self, consumer: Any, active_partitions: set[TP],
        timeout: float | None = None, max_records: int | None = None,  # noqa: ASYNC109  # Faust's signature
    ) -> Any:  # fmt: skip  # two lines say as much
        """From several partitions alike, where one has few keys. Stock hands over all that it
        has of one before it looks at the next: who is behind would judge a partition's few
        lineages side by side for seconds while the others wait. Where one has many, their
        records are better judged close together: a lineage is packed once a commit.
        """
        fetcher = consumer._fetcher
        moving = self.consumer.flow_active and not (consumer._closed or fetcher._closed)
        if max_records and moving and not fetcher._subscriptions.reassignment_in_progress:
            with fetcher._subscriptions.fetch_context():
                records = await self._widely(fetcher, active_partitions, max_records)
            if records:
                return records
        return await super()._fetch_records(consumer, active_partitions, timeout, max_records)

    async def _widely(self, fetcher: Any, active: set[TP], most: int) -> dict[TP, list[Any]]:
        arrived = {tp: found for tp, found in fetcher._records.items() if tp in active}
        if not all(isinstance(found, FetchResult) for found in arrived.values()):
            return {}  # an error is among them, which is stock's to raise
        ready = list(arrived)
        records = await _alike(fetcher, ready[: self._partitions], most)
        keys = len({record.key for found in records.values() for record in found})
        if keys < WIDE and len(records) == self._partitions < len(active):
            self._partitions *= 2
        elif keys >= 4 * WIDE and self._partitions > 1:
            self._partitions //= 2
        return records


async def _alike(fetcher: Any, ready: list[TP], most: int) -> dict[TP, list[Any]]:
    """An equal share of each partition that has arrived, and then what is left of ``most``
    from who has more. Nothing is waited for: no rebalance comes between.
    """
    records: dict[TP, list[Any]] = {}
    while ready and most >= len(ready):
        share, full = most // len(ready), []
        for tp in ready:
            found = (await fetcher.fetched_records([tp], max_records=share)).get(tp, [])
            most -= len(found)
            if found:
                records.setdefault(tp, []).extend(found)
            if len(found) == share:
                full.append(tp)
        ready = full
    return records
