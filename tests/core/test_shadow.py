"""A shadow model decides nothing, and what it would have said otherwise is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models import features
from models.detectors.forest import Forest
from models.features import Array
from models.pipeline import Arrival, Core, Models, deviations, judge
from models.records.codec import encode
from models.records.telemetry import Batch
from models.records.verdict import Shadow, Summary
from models.state import pack, unpack
from models.training import fit
from tests.core.fleet import START_NS, Lineage, Watch, exfiltration

ONE = Forest(fit(np.random.default_rng(5).normal(0, 1, (600, features.SIZE)), features.NAMES, 5))
TWO = Forest(
    fit(np.random.default_rng(6).normal(0, 3, (600, features.SIZE)), features.NAMES, 6, uid="two")
)
SHADOW_NS = START_NS + 100 * 10**9
ALONE = Core(Models(((START_NS, ONE),)))
BESIDE = Core(Models(((START_NS, ONE),), ((SHADOW_NS, TWO),)))


def log() -> list[Arrival]:
    lineage, story, arrivals = Lineage("web", 1, 5.0), exfiltration(500.0), []
    while lineage.now_s < 600:
        arrivals += lineage.next(story)
    return arrivals


LOG = log()


def run(core: Core, cuts: tuple[int, ...] = (), *, packed: bool = False) -> Watch:
    watch, start = Watch(core), 0
    for end in [*cuts, len(LOG)]:
        watch.take(judge(watch.states, LOG[start:end], core))
        start = end
        if packed:
            watch.states = {group: unpack(pack(state)) for group, state in watch.states.items()}
    return watch


def bare(summaries: list[Summary]) -> list[Summary]:
    return [replace(one, shadow=None) for one in summaries]


def test_a_shadow_changes_nothing_that_is_decided() -> None:
    """Whoever tries a model out must not be able to hide an attack by it."""
    alone, beside = run(ALONE), run(BESIDE)

    assert list(map(encode, beside.verdicts)) == list(map(encode, alone.verdicts))
    assert list(map(encode, beside.findings)) == list(map(encode, alone.findings))
    assert bare(beside.summaries) == alone.summaries
    assert any(one.shadow for one in beside.summaries)
    assert alone.verdicts


def test_what_it_would_say_is_counted_sample_by_sample() -> None:
    """Counted here once more, the slow way."""
    watch, states = run(BESIDE), Watch(BESIDE)
    ours, theirs, counted = [], [], 0
    last_ns = max(one.at_ns for one in watch.summaries)
    for arrival in LOG:
        record = arrival.record
        if isinstance(record, Batch) and SHADOW_NS <= record.at_ns <= last_ns:
            rows = deviations(states.states, record, BESIDE)
            counted += len(rows)
            ours.append(ONE.surprise(rows))
            theirs.append(TWO.surprise(rows))
        states.take(judge(states.states, [arrival], BESIDE))
    whole = Shadow("two")
    for summary in watch.summaries:
        if summary.shadow is not None:
            whole = whole.joined(summary.shadow)

    a, b = np.concatenate(ours), np.concatenate(theirs)
    correlation = whole.correlation()
    assert whole.samples == counted > 300
    assert correlation is not None
    assert abs(correlation - np.corrcoef(a, b)[0, 1]) < 1e-9
    assert whole.active_only > 0
    assert whole.both + whole.active_only == np.count_nonzero(a >= 6.0)
    assert whole.both + whole.shadow_only == np.count_nonzero(b >= 6.0)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, len(LOG)), max_size=20).map(sorted), st.booleans())
def test_however_the_log_is_cut_the_counts_are_the_same(cuts: list[int], packed: bool) -> None:
    """A summary is on the log: a replay must give the same bytes."""
    summaries = run(BESIDE, tuple(cuts), packed=packed).summaries

    assert list(map(encode, summaries)) == list(map(encode, run(BESIDE).summaries))


def test_without_an_active_forest_a_shadow_is_compared_with_distance_alone() -> None:
    """The first model of all is tried like any other."""
    summaries = run(Core(Models((), ((SHADOW_NS, TWO),)))).summaries

    shadow = next(one.shadow for one in summaries if one.shadow is not None)
    assert shadow.active_only == 0
    assert shadow.correlation() is None


# ---- a forest of an image's own ---------------------------------------------------------------

OWN = Core(Models(((START_NS, ONE),), own={"shop/web": ((SHADOW_NS, TWO), (SHADOW_NS * 2, None))}))


def test_an_image_is_judged_by_its_own_forest_from_its_time_on() -> None:
    """And every verdict and summary names the one that judged it."""
    told = run(OWN)

    early = [one for one in told.summaries if one.at_ns < SHADOW_NS]
    assert {one.model for one in early} == {ONE.trees.uid}
    assert {one.model for one in told.summaries if one.at_ns >= SHADOW_NS} == {"two"}
    assert {one.model for one in told.verdicts if one.at_ns >= SHADOW_NS} == {"two"}


def test_where_its_own_is_retired_the_fleets_judges_again() -> None:
    """No image is left without a forest while there is one."""
    models = Models(((0, ONE),), own={"shop/web": ((10, TWO), (20, None))})

    assert [models.active(at, "shop/web") for at in (5, 10, 20)] == [ONE, TWO, ONE]
    assert models.active(10, "shop/database") is ONE
    assert Models(own={"shop/web": ((10, TWO),)}).active(10, "shop/cart") is None


def test_anothers_own_forest_changes_nothing() -> None:
    """Byte for byte: rows are grouped by forest, and its rows are not there."""
    others = Core(Models(((START_NS, ONE),), own={"shop/database": ((0, TWO),)}))

    said, alone = run(others), run(ALONE)
    assert list(map(encode, said.verdicts)) == list(map(encode, alone.verdicts))
    assert said.summaries == alone.summaries


def test_a_shadow_of_its_own_scores_beside_whatever_decides() -> None:
    """A forest for one image is tried as the fleet's are."""
    core = Core(Models(((START_NS, ONE),), own_shadows={"shop/web": ((SHADOW_NS, TWO),)}))
    watch = run(core)

    assert bare(watch.summaries) == run(ALONE).summaries
    assert {one.shadow.model for one in watch.summaries if one.shadow} == {"two"}
    assert not any(one.shadow for one in run(OWN).summaries)


def test_a_wave_takes_one_call_a_forest() -> None:
    """However many groups and images: a call of numpy costs more than a row."""
    calls: list[int] = []

    class Counting(Forest):
        def surprise(self, rows: Array) -> Array:
            calls.append(len(rows))
            return super().surprise(rows)

    def called(own: dict[str, Forest]) -> int:
        lineages = [Lineage("web", 1, 5.0, name=f"shop/web-{at}") for at in range(6)]
        turns = {name: ((0, forest),) for name, forest in own.items()}
        core = Core(Models(((0, Counting(ONE.trees)),), own=turns))
        states = judge({}, [one for lineage in lineages for one in lineage.next()], core).states
        calls.clear()
        judge(states, [one for lineage in lineages for one in lineage.next()[:1]], core)
        return len(calls)

    two = Counting(TWO.trees)
    assert called({}) == 1
    assert called({"shop/web-1": two, "shop/web-4": two}) == 2
