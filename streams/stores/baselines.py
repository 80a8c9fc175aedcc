"""What workers know, read from their table's changelog: a look, never a touch.

Read is up to the present end, without a consumer group; a worker may be a commit ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from models.contract import Topics, partition_of, telemetry_key
from models.errors import ConfigurationError
from models.lineage import Image, LineageState
from models.settings import Kafka
from models.state import pack, unpack
from streams.delivery.late import Keeper
from streams.stores.window import TopicLog
from streams.tables import Rows, TableRows

TABLE: Final = "baselines"
_ROOM: Final = 16 << 10
_LIVELY_ROOM: Final = 160 << 10


@dataclass
class Recovered:
    """One partition of the table as a new worker would have it."""

    keeper: Keeper | None = None
    rows: dict[bytes, bytes] = field(default_factory=dict)
    partition_by_key: dict[bytes, int] = field(default_factory=dict)

    def take(self, rows: Rows[LineageState], key: bytes, value: bytes | None, place: int) -> None:
        """One record of the changelog."""
        if value is None:
            self.rows.pop(key, None)
            self.partition_by_key.pop(key, None)
        elif key not in self.rows or rows.newer(self.rows[key], value):
            self.rows[key], self.partition_by_key[key] = value, place


class Baselines:
    """The baselines of one scope. Raises: BrokerUnreachable."""

    def __init__(self, kafka: Kafka, topics: Topics, group: str, scope: str) -> None:
        self._log = TopicLog(kafka.librdkafka(), f"{group}-{TABLE}-changelog")
        self._topics, self._scope = topics, scope

    def all(self) -> Iterator[LineageState]:
        """Every lineage and role, a partition at a time."""
        for partition in range(self._log.partitions()):
            rows = self.rows(partition)
            for group in sorted(rows.groups(partition)):
                state = rows.get(group)
                if state is not None and state.scope == self._scope:
                    yield state

    def find(self, said: str) -> LineageState:
        """One lineage in one role: ``LINEAGE``, or ``LINEAGE/ROLE``.

        Raises: ConfigurationError when it is not known, or has several roles.
        """
        lineage, _, role = said.rpartition("/")
        found = list(self._named({telemetry_key(self._scope, said, ""),
                                  telemetry_key(self._scope, lineage, role)}))  # fmt: skip  # a set
        if not found:
            found = [one for one in self.all() if one.lineage == said]
        if len(found) == 1:
            return found[0]
        roles = ", ".join(f"{one.lineage}/{one.role}" for one in found)
        what = f"several roles: {roles}" if found else "nothing is known of it"
        raise ConfigurationError(f"{said}: {what}; `plimsoll baseline list` tells what is known")

    def _named(self, groups: set[str]) -> Iterator[LineageState]:
        count = self._log.partitions()
        for group in sorted(groups):
            state = self.rows(partition_of(group.encode(), count)).get(group)
            if state is not None:
                yield state

    def rows(self, partition: int) -> Rows[LineageState]:
        """One partition as a new worker would recover it."""
        table = Recovered()
        rows = rows_on(table, self._topics)
        for message, _, _ in self._log.messages(partitions=[partition]):
            table.take(rows, message.key() or b"", message.value(), partition)
        rows.recovered()
        return rows


def rows_on(table: TableRows, topics: Topics) -> Rows[LineageState]:
    """What workers know, in this table: the one way to read and to fill it."""
    return Rows(
        table, pack, unpack, [topics.telemetry],
        due=lambda state: state.due_ns, room=_room,
        when_lost="what is found there orders nothing: stop the workers, run `plimsoll rebuild`, "
        "start them again",
    )  # fmt: skip  # by subject


def _room(row: str) -> int:
    """In a lineage's marker: its containers change with each of their batches, and up to about
    ninety lie there; what is known of its images and facts changes seldom.
    """
    return _LIVELY_ROOM if row == "l" or row.startswith("c/") else _ROOM


def image_of(state: LineageState, said: str) -> Image:
    """An image of a lineage by its name or a part of it (a digest's beginning); empty: the
    newest. Raises: ConfigurationError when none or several fit.
    """
    images = newest_first(state)
    found = [one for one in images if said in one.name] if said else images[:1]
    if len(found) == 1:
        return found[0]
    names = "\n  ".join(one.name for one in images)
    raise ConfigurationError(
        f"{len(found)} images of {state.lineage} fit {said!r}; it has\n  {names}"
    )


def newest_first(state: LineageState) -> list[Image]:
    return sorted(state.images.values(), key=lambda one: (-one.first_ns, one.name))
