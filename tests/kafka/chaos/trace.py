"""Where a table left what its log calls for: the first row of a group that is not the replay's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.contract import Topics
from models.pipeline import Core
from models.replay import Recorded, Replay
from models.state import pack
from streams.stores.baselines import Recovered, rows_on
from streams.table_format import Marker
from streams.tables import MARKER

_TELEMETRY = 0
"""Its place among the sources of the worker's rows."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """The marker at ``changelog_offset`` says that it holds all up to ``offset``, and does not."""

    group: str
    partition: int
    offset: int
    changelog_offset: int
    written_ms: int


def first_wrong(
    changelog: Iterable[Any], telemetry: Iterable[Recorded], topics: Topics, core: Core
) -> list[Wrong]:
    """The first wrong marker of each group, in one partition: ``changelog`` are its messages,
    ``telemetry`` its records. A changelog that was compacted lacks markers, the first too.
    """
    told = _told(changelog, topics)
    replay, found = Replay(core, at_once=1), dict[str, Wrong]()
    for one in telemetry:
        for judged in replay.run([one]):
            for group, state in judged.states.items():
                said = told.get((group, one.offset))
                if said is not None and said[0] != pack(state):
                    found.setdefault(group, said[1])
    return sorted(found.values(), key=lambda wrong: wrong.offset)


Told = dict[tuple[str, int], tuple[Mapping[str, bytes] | None, Wrong]]
"""By group and offset, the state that a marker told of, and where."""


def _told(changelog: Iterable[Any], topics: Topics) -> Told:
    """What the table held once each marker was written."""
    table, told = Recovered(), Told()
    rows = rows_on(table, topics)
    for message in changelog:
        key, value = message.key() or b"", message.value()
        table.take(rows, key, value, message.partition())
        name, _, group = key.decode().partition("|")
        if value is None or name != MARKER:
            continue
        offset = Marker.decode(value).offsets.get(_TELEMETRY, -1)
        rows.recovered()
        state = rows.get(group)
        where = Wrong(
            group, message.partition(), offset, message.offset(), message.timestamp()[1]
        )  # fmt: skip  # one call
        told.setdefault((group, offset), (pack(state) if state is not None else None, where))
    return told
