"""What a batch may cost, in calls of Python functions: steady where seconds are not.

Numpy's own work grows with the samples; what Python does must not. Bounds are a tenth above
what is counted today: who makes the path leaner lowers them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import features
from models.admission import admitted
from models.contract import partition_of
from models.detection import Detection
from models.detectors.forest import Forest
from models.pipeline import Arrival, Core, Models, judge
from models.records.samples import Samples
from models.records.telemetry import Batch, Encoding, Member, written
from models.state import LineageState
from models.training import fit
from tests.core.fleet import START_NS

MOST_JUDGING = 1_220
MOST_BESIDE = 225
MOST_READING: dict[Encoding, int] = {"json": 915, "binary": 110}
MOST_INSTANT = 87
FOREST = Forest(fit(np.random.default_rng(5).normal(size=(600, features.SIZE)), features.NAMES, 5))
ALL = Core(Models(((0, FOREST),)))
NO_ONSET = Core(Models(((0, FOREST),)), Detection(detectors=("distance", "forest")))


def batch(turn: int, containers: int, each: int, lineage: str = "shop/cart") -> Batch:
    """Siblings side by side, some samples of each within one second."""
    members = tuple(Member(f"{n:064x}", "node", f"{lineage}@1") for n in range(containers))
    row = np.arange(containers * each)
    usual = np.array([max(feature.floor, 0.01) * 5 for feature in features.MEASURED])
    noise = np.random.default_rng(turn).lognormal(0.0, 0.1, (len(usual), len(row)))
    names = tuple(feature.name for feature in features.MEASURED)
    times_ns = START_NS + turn * 10**9 + row // containers * (10**9 // each)
    subjects = tuple(member.subject for member in members)
    table = Samples(names, subjects, row % containers, times_ns, usual[:, None] * noise)
    return Batch("default", lineage, "", members, table, 1.0)


def calls(what: Callable[[], Any]) -> int:
    """Python functions and built-in ones entered meanwhile."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        what()
    finally:
        sys.setprofile(None)
    return counted


def judging(core: Core, containers: int, each: int, lineages: int = 1) -> int:
    """Calls to judge a batch of each lineage that closes neither block nor minute, once all is
    learned.
    """
    states: dict[str, LineageState] = {}
    for turn in range(85):
        states.update(judge(states, arrivals(turn, containers, each, lineages), core).states)
    last = arrivals(85, containers, each, lineages)
    return calls(lambda: judge(states, last, core))


def arrivals(turn: int, containers: int, each: int, lineages: int) -> list[Arrival]:
    records = [batch(turn, containers, each, f"shop/part-{at}") for at in range(lineages)]
    return [Arrival(record.group, record, record.at_ns) for record in records]


def reading(encoding: Encoding, containers: int, each: int) -> int:
    """Calls to take in a message."""
    record = batch(0, containers, each)
    key, value = record.group.encode(), written(record, encoding)

    def read() -> None:
        admitted("batch", key, value, partition=partition_of(key, 4), partitions=4,
                 arrived_ns=record.at_ns)  # fmt: skip  # one call

    read()  # decoders are built when first asked for
    return calls(read)


def test_a_batch_costs_a_bounded_number_of_calls() -> None:
    """Each microsecond a message shows at one sample a message; nobody sees it in a review."""
    assert 50 < judging(ALL, 20, 1) <= MOST_JUDGING
    for encoding, most in MOST_READING.items():
        assert 20 < reading(encoding, 20, 1) <= most


def test_lineages_that_arrive_together_are_judged_together() -> None:
    """A wave is one array: numpy is called for all of its lineages, and for each only what is
    its own.
    """
    alone = judging(ALL, 20, 1)

    for lineages in (11, 21):
        assert 20 < (judging(ALL, 20, 1, lineages) - alone) / (lineages - 1) <= MOST_BESIDE


def test_no_call_is_made_for_each_container_or_sample() -> None:
    """Siblings side by side, and what came of each, are one array: numpy takes 400 samples more
    in blocks, Python takes no notice.
    """
    lean = judging(NO_ONSET, 20, 5)

    assert judging(NO_ONSET, 20, 25) - lean < 100
    assert judging(NO_ONSET, 100, 5) - lean < 2 * 80  # each container's name is looked up
    for encoding in MOST_READING:
        assert reading(encoding, 20, 25) - reading(encoding, 20, 5) < 50


def test_the_onset_goes_from_one_instant_to_the_next_with_all_containers_at_once() -> None:
    """The one detector that takes time step by step; it must not take containers so, too."""
    once = judging(ALL, 20, 1)

    assert judging(ALL, 100, 1) - once < 2 * 80
    assert judging(ALL, 20, 6) - once <= 5 * MOST_INSTANT


def test_a_call_for_each_sample_would_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the bounds above hold nothing."""
    transform = features.transform

    def slow(values: features.Array) -> features.Array:
        return np.concatenate([transform(row[None]) for row in values])

    lean = judging(NO_ONSET, 20, 5)
    monkeypatch.setattr("models.magnitudes.transform", slow)

    assert judging(NO_ONSET, 20, 5) >= lean + 100
