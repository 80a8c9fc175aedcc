"""What workers had learned, made once more from the telemetry, and put where they look for it.

The same replay that proves a worker's state makes it: all records of a partition up to the
group's committed offset, by one thread. Workers of the group have to stand still meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from models.contract import PARTITIONER, READER, Topics
from models.errors import BrokerUnreachable, ConfigurationError
from models.pipeline import Core
from models.replay import Recorded, Replay
from models.settings import Kafka
from streams.delivery.app import CHANGELOG, MOST_RECORD_BYTES
from streams.delivery.late import Row
from streams.stores.baselines import TABLE, Baselines
from streams.stores.window import TelemetryLog
from streams.table_format import Body
from streams.tables import WHOLE, Rows, head_key

_ASK_S: Final = 15.0
_DELIVER_S: Final = 120.0

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One partition: what it was made from, and what was written. ``complete`` where the log
    still began at its beginning; else what came before ``from_offset`` is gone for good.
    """

    partition: int
    cold: bool
    records: int
    groups: int
    from_offset: int
    to_offset: int
    complete: bool
    rows_written: int = 0


class Rebuilding:
    """Raises: BrokerUnreachable; ConfigurationError while workers of the group run."""

    def __init__(
        self, kafka: Kafka, topics: Topics, group: str, scope: str, core: Core,
        log: TelemetryLog, replication: int,
    ) -> None:  # fmt: skip  # two lines say as much
        """``log`` reads the telemetry, with the lessons that the workers believe."""
        self._kafka, self._topics, self._group, self._core = kafka, topics, group, core
        self._changelog = f"{group}-{TABLE}-changelog"
        self._log = log
        self._baselines = Baselines(kafka, topics, group, scope)
        self._replication = replication

    def cold(self) -> list[int]:
        """Partitions that were read and whose table is lost, or was when a worker looked."""
        found = self._committed()
        here = self._changelog_partitions()
        return [at for at, end in found.items() if end and (at >= here or self._is_cold(at))]

    def run(
        self, partitions: Sequence[int], *, write: bool, progress: Progress = lambda _share: None
    ) -> Iterator[Rebuilt]:
        """One partition after the other; without ``write`` nothing is changed."""
        if write:
            self._check_still()
            self._ensure_changelog()
        committed = self._committed()
        for number, partition in enumerate(partitions):
            yield self._one(partition, committed.get(partition, 0), write=write)
            progress((number + 1) / len(partitions))

    def _one(self, partition: int, end: int, *, write: bool) -> Rebuilt:
        states, count = self._replayed(partition, end)
        first = self._log.offsets.get(str(partition), (0, 0))[0]
        rows = self._rows(partition)
        written = 0
        if write:
            written = self._write(self._owed(rows, partition, end - 1, states))
        return Rebuilt(
            partition, rows is None or _is_cold(rows, partition), count, len(states),
            first, end, first == 0, written,
        )  # fmt: skip  # as the fields lie

    def _replayed(self, partition: int, end: int) -> tuple[dict[str, Any], int]:
        replay, count = Replay(self._core), 0

        def up_to_the_end() -> Iterator[Recorded]:
            nonlocal count
            for one in self._log.records(0, 0, [partition]):
                if one.offset >= end:
                    return
                count += 1
                yield one

        for _judged in replay.run(up_to_the_end()):
            pass  # what was found then was told then
        return replay.states.get(partition, {}), count

    # ---- the changelog ----------------------------------------------------------------------

    def _rows(self, partition: int) -> Rows[Any] | None:
        """What is left of the table's partition; None where there is no such topic."""
        if partition >= self._changelog_partitions():
            return None
        return self._baselines.rows(partition)

    def _is_cold(self, partition: int) -> bool:
        return _is_cold(self._baselines.rows(partition), partition)

    def _owed(
        self, rows: Rows[Any] | None, partition: int, offset: int, states: dict[str, Any]
    ) -> list[Sequence[Row]]:
        """What makes the changelog say what the replay says, phase by phase."""
        assert rows is not None, "the changelog was made before"
        event = SimpleNamespace(
            message=SimpleNamespace(topic=self._topics.telemetry, partition=partition)
        )
        for group in rows.groups(partition):
            if group not in states:
                rows.drop(event, group, offset)
        for group, state in states.items():
            rows.keep(event, group, state, offset)
        return [*rows.take_owed().phases, (_whole(rows, partition),)]

    def _write(self, phases: Sequence[Sequence[Row]]) -> int:
        """Each phase is durable before the next begins, as a worker writes them."""
        failed: list[str] = []

        def delivered(problem: Any, _message: Any) -> None:
            if problem is not None:
                failed.append(problem.str())

        producer = Producer(
            {
                **self._kafka.librdkafka(), "partitioner": PARTITIONER, "acks": "all",
                "enable.idempotence": True, "message.max.bytes": MOST_RECORD_BYTES,
            }
        )  # fmt: skip  # a table
        for phase in phases:
            for row in phase:
                producer.produce(
                    self._changelog, row.value, row.key, row.partition, on_delivery=delivered
                )
                producer.poll(0)
            if producer.flush(_DELIVER_S) or failed:
                why = failed[0] if failed else f"no answer within {_DELIVER_S:.0f} s"
                raise BrokerUnreachable(
                    f"topic {self._changelog}: {why}; the partition is as cold as before, "
                    "run `plimsoll rebuild` again"
                )
        return sum(map(len, phases))

    # ---- the group --------------------------------------------------------------------------

    def _committed(self) -> dict[int, int]:
        """By partition, the offset up to which the group has read."""
        reader = Consumer({**self._kafka.librdkafka(), "group.id": self._group})
        try:
            places = [
                TopicPartition(self._topics.telemetry, at) for at in range(self._log.partitions())
            ]
            found = reader.committed(places, timeout=_ASK_S)
        except KafkaException as problem:
            raise BrokerUnreachable(f"group {self._group}: {problem.args[0].str()}") from problem
        finally:
            reader.close()
        return {one.partition: max(one.offset, 0) for one in found}

    def _check_still(self) -> None:
        admin = AdminClient({**self._kafka.librdkafka()})
        found = admin.describe_consumer_groups([self._group])[self._group].result(_ASK_S)
        if found.state not in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD):
            raise ConfigurationError(
                f"group {self._group} has {len(found.members)} workers: stop them first, they "
                "would go on from what they hold (a killed one leaves after its session)"
            )

    def _changelog_partitions(self) -> int:
        reader = Consumer({**self._kafka.librdkafka(), "group.id": READER})
        try:
            found = reader.list_topics(timeout=_ASK_S).topics.get(self._changelog)
        except KafkaException as problem:
            raise BrokerUnreachable(f"Kafka: {problem.args[0].str()}") from problem
        finally:
            reader.close()
        return 0 if found is None else len(found.partitions)

    def _ensure_changelog(self) -> None:
        if self._changelog_partitions():
            return
        topic = NewTopic(
            self._changelog, self._log.partitions(), self._replication, config=dict(CHANGELOG)
        )
        admin = AdminClient({**self._kafka.librdkafka()})  # its futures end with it
        try:
            admin.create_topics([topic])[self._changelog].result(_ASK_S)
        except KafkaException as problem:
            raise BrokerUnreachable(
                f"topic {self._changelog} can't be made: {problem.args[0].str()}"
            ) from problem


def _is_cold(rows: Rows[Any], partition: int) -> bool:
    return rows.head(partition) is None or rows.cold(partition)


def _whole(rows: Rows[Any], partition: int) -> Row:
    """The head that says so, newer than the one that is there."""
    before = rows.head(partition)
    version = 1 if before is None else before.version + 1
    return Row(partition, head_key(partition), Body(version, WHOLE).encode())
