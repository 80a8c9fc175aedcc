"""What a failed `make chaos` tells: where a table left the replay."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from models.contract import Topics
from models.pipeline import Core
from models.replay import Recorded, Replay
from streams.stores.baselines import Recovered, rows_on
from tests.kafka.chaos.load import ODD_GROUP, odd_batch
from tests.kafka.chaos.trace import first_wrong

TOPICS = Topics("t.")
COUNT = 12


def recorded() -> list[Recorded]:
    noise = np.random.default_rng(1).lognormal(0, 0.2, (COUNT, 3, 2))
    at_ns = [1_790_000_000_000_000_000 + second * 10**9 for second in range(COUNT)]
    return [
        Recorded(2, offset, odd_batch(at, noise[offset]), at) for offset, at in enumerate(at_ns)
    ]  # fmt: skip  # one loop


def changelog_of(records: list[Recorded], unseen: int | None = None) -> list[Any]:
    """What a worker writes that commits after each record, and never gets the unseen one."""
    table, replay = Recovered(), Replay(Core(), at_once=1)
    rows, written = rows_on(table, TOPICS), list[Any]()
    for one in records:
        if one.offset == unseen:
            continue
        for judged in replay.run([one]):
            event = SimpleNamespace(message=SimpleNamespace(
                topic=TOPICS.telemetry, partition=2, offset=one.offset,
            ))  # fmt: skip  # one call
            rows.keep(event, ODD_GROUP, judged.states[ODD_GROUP], one.offset)
        owed = rows.take_owed()
        for row in (row for phase in owed.phases for row in phase):
            table.take(rows, row.key, row.value, row.partition)
            written.append(message_of(len(written), row.key, row.value))
        rows.settled(owed)
    return written


def message_of(offset: int, key: bytes, value: bytes | None) -> Any:
    return SimpleNamespace(
        key=lambda: key, value=lambda: value, partition=lambda: 2, offset=lambda: offset,
        timestamp=lambda: (1, 1_000 + offset),
    )  # fmt: skip  # by subject


def test_the_first_marker_that_lacks_a_record_is_named() -> None:
    """Without it whoever reads the report has a million offsets to look at."""
    records = recorded()

    (wrong,) = first_wrong(changelog_of(records, unseen=7), records, TOPICS, Core())

    assert (wrong.group, wrong.partition, wrong.offset) == (ODD_GROUP, 2, 8)
    assert wrong.changelog_offset == 7, "one record a commit, and one commit less"


def test_a_table_that_is_the_replay_has_no_wrong_marker() -> None:
    """A finding of this trace has to mean something."""
    records = recorded()
    assert first_wrong(changelog_of(records), records, TOPICS, Core()) == []
