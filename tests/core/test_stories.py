"""Every attack and fault reaches its level in time, and nothing that only looks like one does."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest

from models.detection import Detection
from models.features import INDEX, SIZE, Array
from models.lineage import Case
from models.magnitudes import own_level
from models.members import LAST, LEVEL
from models.pieces import Bench, Said, magnitudes
from models.pipeline import Core
from models.records.facts import Fact
from models.records.verdict import Level
from models.verdict import level_of
from tests.core.fleet import (
    CPU,
    OPENED,
    RX,
    RXP,
    START_NS,
    STORIES,
    TWINS,
    TX,
    TXP,
    Lineage,
    Watch,
    exfiltration,
    miner,
)

SEEDS = range(3)
"""``python -m tests.core.figures`` tells them for more."""
WARM_S = {1.0: 85.0, 5.0: 1800.0}


@functools.lru_cache(maxsize=64)
def warm(kind: str, seed: int, step_s: float) -> tuple[Lineage, Watch]:
    """A lineage that has been watched until it is known; shared, so never to be changed."""
    lineage, watch = Lineage(kind, seed, step_s), Watch(Core())
    watch.run([lineage], WARM_S[step_s])
    return lineage, watch


def told(kind: str, seed: int, step_s: float) -> tuple[Lineage, Watch, float]:
    lineage, watch = warm(kind, seed, step_s)
    return copy.deepcopy(lineage), Watch(Core(), dict(watch.states)), lineage.now_s + step_s


@pytest.mark.parametrize("step_s", WARM_S)
@pytest.mark.parametrize("name", STORIES)
def test_an_attack_or_fault_reaches_its_level_in_time(name: str, step_s: float) -> None:
    """What is not called in time is not answered in time."""
    make, level, within_s = STORIES[name]
    for seed in SEEDS:
        lineage, watch, begin_s = told("web", seed, step_s)
        victim = lineage.pods[0].member.subject

        watch.run([lineage], within_s, make(begin_s))

        passed_s = watch.reached(victim, level, begin_s)
        assert passed_s is not None, f"seed {seed}: only {watch.worst()}"
        assert passed_s <= within_s
        accused = {f.verdict.subject for f in watch.findings if f.verdict.level.rank > 1}
        assert accused == {victim}, f"seed {seed}: a bystander was accused"
        if level is Level.CORRUPTED:
            assert watch.worst() is level, "a fault is no attack"


@pytest.mark.parametrize("step_s", WARM_S)
@pytest.mark.parametrize("name", TWINS)
def test_what_only_looks_like_an_attack_is_left_alone(name: str, step_s: float) -> None:
    """A false isolation costs more than the product is worth."""
    for seed in SEEDS:
        lineage, watch, begin_s = told("web", seed, step_s)

        watch.run([lineage], 240, TWINS[name](begin_s))

        worst = max(watch.findings, key=lambda f: f.verdict.level.rank, default=None)
        assert watch.worst().rank <= Level.WATCH.rank, f"seed {seed}: {worst}"


@pytest.mark.parametrize("kind", ["database", "idle", "crawler", "worker"])
def test_proofs_speak_whatever_the_image_is_like(kind: str) -> None:
    """They do not depend on magnitudes, so neither do they on an image's character."""
    for name in ("dropped-program", "changed-boot"):
        lineage, watch, begin_s = told(kind, 1, 5.0)
        watch.run([lineage], 10, STORIES[name][0](begin_s))
        assert watch.reached(lineage.pods[0].member.subject, Level.COMPROMISED, begin_s) == 0


def test_a_new_peer_alone_is_only_watched() -> None:
    """Partners move; only together with something else is a stranger worth an answer."""
    lineage, watch, begin_s = told("web", 3, 5.0)

    def peers_only(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        before = row.copy()
        miner(begin_s)(lineage, place, row, facts)
        row[:] = before

    watch.run([lineage], 120, peers_only)

    assert watch.worst() is Level.WATCH


def test_quiet_hours_raise_next_to_nothing() -> None:
    """The budget is one false alarm a day: two hours have room for none."""
    lineages = [Lineage(kind, 7, 5.0, name=f"q/{kind}") for kind in ("web", "idle", "crawler")]
    watch = Watch(Core())

    watch.run(lineages, 7_200)

    assert watch.worst().rank <= Level.WATCH.rank


def test_a_ticket_of_magnitudes_moves_their_line_and_a_proof_does_not() -> None:
    """The budget counts what the line let through, not what no line would have stopped."""
    lifts = {}
    for name in ("memory-leak", "dropped-program", ""):
        lineage, watch, begin_s = told("web", 0, 5.0)
        watch.run([lineage], 300, *([STORIES[name][0](begin_s)] if name else []))
        (image,) = watch.states[lineage.group].images.values()
        lifts[name] = image.lift.height / image.tail.excess
    assert lifts["memory-leak"] > lifts[""] + 0.1
    assert lifts["dropped-program"] < lifts[""] + 0.05
    assert -0.1 < lifts[""] < 0.0


def test_who_falls_silent_is_not_odd_for_it() -> None:
    """Of no traffic no ratio can be told: one that was odd before does not stay so either."""
    lineage, watch, begin_s = told("database", 2, 5.0)
    victim = lineage.pods[0].member.subject

    def stops(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0:
            small = lineage.now_s < begin_s + 60
            row[TX], row[TXP] = (200e3, 5_000.0) if small else (0.0, 0.0)
            row[RX], row[RXP], row[OPENED] = (20e3, 100.0, 0.0) if small else (0.0, 0.0, 0.0)

    watch.run([lineage], 240, stops)

    said = [v for v in watch.verdicts if v.subject == victim and v.reasons]
    assert any("bytes in a sent packet" in v.reasons[0].text for v in said), "never odd: no test"
    late = [v for v in said if v.at_ns > START_NS + (begin_s + 200) * 1e9]
    assert not [v for v in late if v.level is not Level.QUIET], late


def test_what_stays_within_the_usual_range_condemns_nobody() -> None:
    """A line learned in calm times may lie inside the range: past it alone is not enough."""
    _, watch, _ = told("database", 2, 5.0)
    state = next(iter(watch.states.values())).copy()
    (image,) = state.images.values()
    at, sent = INDEX["network_transmit_bytes_per_packet"], np.zeros(SIZE)
    sent[at] = 2.0 * image.line
    levels = []
    for value, packets in (
        (image.baseline.low[at], 1.0),
        (image.baseline.low[at] - 1.0, 1.0),
        (image.baseline.low[at] - 1.0, 0.0),
    ):
        sent[INDEX["network_transmit_packets_per_s"]] = packets * image.line
        state.members.grid[0, LAST, at] = value + own_level(state.members.grid[0, LEVEL])[at]
        bench = Bench(state, Detection(), state.now_ns, None, Said())
        since_ns = state.now_ns - 60 * 10**9
        case = Case(past_ns={"egress": since_ns, "!egress": since_ns})
        levels.append(level_of(magnitudes(bench, case, 0, image, sent), bench.patience))
    assert levels == [Level.WATCH, Level.SUSPECT, Level.WATCH], "the last has no more packets"


@pytest.mark.parametrize("siblings", [1, 2])
@pytest.mark.parametrize("kind", ["web", "database"])
def test_a_load_that_comes_and_goes_with_the_day_keeps_the_budget(kind: str, siblings: int) -> None:
    """What was learned at night rises in proportion, on whatever scale; and what goes away takes
    its large packets first.
    """
    lineage, watch = Lineage(kind, 3, 15.0, siblings=siblings), Watch(Core())
    lineage.load = 0.05
    watch.run([lineage], 3_600)
    for minutes in range(0, 8 * 60, 5):
        lineage.load = 0.05 + 0.95 * max(0.0, np.sin(np.pi * minutes / 360))
        watch.run([lineage], 300)

    called = [f.verdict for f in watch.findings if f.verdict.level.rank > Level.WATCH.rank]
    assert len(called) <= 1, "the budget of a day"


def test_one_alone_that_gets_work_for_good_is_not_deaf_for_it() -> None:
    """What was idle while it was learned would else be odd for ever, and so would an attack."""
    lineage, watch = Lineage("web", 1, 15.0, siblings=1), Watch(Core())
    lineage.load = 0.02
    watch.run([lineage], 3_600)
    lineage.load = 1.5
    watch.run([lineage], 7_200)
    assert watch.worst() is Level.WATCH
    begin_s, victim = lineage.now_s, lineage.pods[0].member.subject

    watch.run([lineage], 300, miner(begin_s))

    assert watch.reached(victim, Level.COMPROMISED, begin_s) is not None


@pytest.mark.parametrize(("name", "learns"), [("host/h1", True), ("shop/batch", False)])
def test_a_host_learns_whatever_load_stays_and_one_alone_only_what_comes_in(
    name: str, learns: bool
) -> None:
    """What a host's containers do is judged there. A container that computes for nobody is a
    fault or worse, however long it goes on.
    """

    def computes(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        row[CPU] += 2.0

    lineage, watch = Lineage("web", 1, 15.0, siblings=1, name=name), Watch(Core())
    watch.run([lineage], 3_600)
    before = float(watch.states[lineage.group].images[lineage.image].baseline.location[CPU])
    watch.run([lineage], 7_200, computes)
    after = float(watch.states[lineage.group].images[lineage.image].baseline.location[CPU])

    assert (after > before + 0.5) is learns
    assert watch.worst() is (Level.WATCH if learns else Level.CORRUPTED)


@pytest.mark.parametrize("siblings", [1, 4])
def test_what_is_taken_from_an_idle_container_is_not_its_work(siblings: int) -> None:
    """Acknowledgements come in as what is taken goes out; there was nothing to compare it with."""
    lineage, watch = Lineage("idle", 1, 5.0, siblings=siblings), Watch(Core())
    watch.run([lineage], 1_800)
    begin_s, victim = lineage.now_s, lineage.pods[0].member.subject

    watch.run([lineage], 60, exfiltration(begin_s))

    assert watch.reached(victim, Level.COMPROMISED, begin_s) is not None
