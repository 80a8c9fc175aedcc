"""Several partitions as one log: the order does not depend on what was fetched first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.delivery.merge import Merge

WORDS, FINDINGS, OUTCOMES = TP("control", 0), TP("findings", 0), TP("outcomes", 0)
ALL = (WORDS, FINDINGS, OUTCOMES)
RANK = {"control": 0, "findings": 1, "outcomes": 2}


def event(tp: TP, offset: int, at: float, generation: int = 1) -> Any:
    message = SimpleNamespace(
        tp=tp, topic=tp.topic, offset=offset, timestamp=at, generation_id=generation
    )
    return SimpleNamespace(message=message)


def told(events: list[Any]) -> list[tuple[str, int]]:
    return [(one.message.topic, one.message.offset) for one in events]


@given(
    st.lists(st.tuples(st.sampled_from(ALL), st.integers(0, 3)), max_size=30),
    st.lists(st.sampled_from(ALL), max_size=60),
)
def test_whatever_is_fetched_first_the_order_is_the_logs(
    written: list[tuple[TP, int]], fetched: list[TP]
) -> None:
    """Otherwise a governor that takes over decides otherwise than the one that died."""
    log: dict[TP, list[Any]] = {tp: [] for tp in ALL}
    at, written_in_order = 0, []
    for tp, passed in written:
        at += passed
        log[tp].append(event(tp, len(log[tp]), at))
        written_in_order.append(log[tp][-1])
    expected = told(sorted(written_in_order, key=lambda e: (
        e.message.timestamp, RANK[e.message.topic], e.message.offset,
    )))  # fmt: skip  # one thought
    merge, unread, out = Merge(RANK, clock=lambda: 0.0), {tp: list(log[tp]) for tp in ALL}, []
    rest = [tp for tp in ALL for _ in log[tp]]
    for tp in [*fetched, *rest]:
        if unread[tp]:
            merge.put(unread[tp].pop(0))
        out += merge.ready([tp for tp in ALL if unread[tp]], most=3)
    while found := merge.ready([], most=3):
        out += found

    assert told(out) == expected


def test_nothing_waits_for_a_partition_that_has_been_read() -> None:
    """Two of the three topics are silent nearly always."""
    merge = Merge(RANK)
    merge.put(event(FINDINGS, 7, 10.0))

    assert told(merge.ready([], 500)) == [("findings", 7)]
    assert not merge


def test_a_partition_that_cannot_be_read_holds_up_the_others_for_a_time_only() -> None:
    """Its leader may be away for hours; an intruder does not wait for it."""
    clock = SimpleNamespace(now_s=0.0)
    merge = Merge(RANK, patience_s=10.0, clock=lambda: float(clock.now_s))
    merge.put(event(FINDINGS, 7, 10.0))
    merge.put(event(FINDINGS, 8, 11.0))

    assert merge.ready([WORDS], 500) == []
    clock.now_s = 9.9
    assert merge.ready([WORDS], 500) == []
    clock.now_s = 10.1
    with capture_logs() as said:
        assert told(merge.ready([WORDS], 500)) == [("findings", 7), ("findings", 8)]
    assert [line["first"] for line in said] == ["control[0]"]  # once, not for each record


def test_offsets_count_within_a_partition_whatever_its_times_say() -> None:
    """A broker that takes a partition over may have a slow clock."""
    merge = Merge(RANK)
    merge.put(event(FINDINGS, 1, 10.0))
    merge.put(event(FINDINGS, 2, 9.0))
    merge.put(event(OUTCOMES, 5, 9.5))

    assert told(merge.ready([], 500)) == [("outcomes", 5), ("findings", 1), ("findings", 2)]


def test_what_a_rebalance_has_read_again_is_not_kept() -> None:
    """It would be governed before its turn, and twice."""
    merge = Merge(RANK)
    merge.put(event(FINDINGS, 1, 10.0, generation=1))
    merge.put(event(FINDINGS, 1, 10.0, generation=2))
    merge.keep(lambda one: one.message.generation_id == 2)

    (kept,) = merge.ready([], 500)
    assert kept.message.generation_id == 2
