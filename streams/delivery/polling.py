"""The consumer's thread: how records come from the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.consumer.fetcher import FetchResult
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

if TYPE_CHECKING:
    import aiokafka

    from streams.delivery.consumer import LeanConsumer


class LeanThread(driver.AIOKafkaConsumerThread):
    """Stock, but for the fetch wait, fair polls, and a lease that each heartbeat renews."""

    consumer: LeanConsumer

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
        """From all partitions alike. Stock hands over all that it has of one before it looks
        at the next: who is behind would judge a partition's few lineages for seconds while
        the others wait, and what many lineages sent can't be judged together.
        """
        fetcher = consumer._fetcher
        moving = self.consumer.flow_active and not (consumer._closed or fetcher._closed)
        if max_records and moving and not fetcher._subscriptions.reassignment_in_progress:
            with fetcher._subscriptions.fetch_context():
                records = await _fairly(fetcher, active_partitions, max_records)
            if records:
                return records
        return await super()._fetch_records(consumer, active_partitions, timeout, max_records)


async def _fairly(fetcher: Any, active: set[TP], most: int) -> dict[TP, list[Any]]:
    """An equal share of each partition that has arrived, and then what is left of ``most``
    from who has more. Nothing is waited for: no rebalance comes between.
    """
    records: dict[TP, list[Any]] = {}
    ready = [tp for tp, found in fetcher._records.items() if tp in active and _whole(found)]
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


def _whole(found: Any) -> bool:
    """Not an error, which stock raises once nothing else is there."""
    return isinstance(found, FetchResult)
