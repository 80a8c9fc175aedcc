"""Training and replay from any source of records, without a broker."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from models.contract import partition_of
from models.detectors.forest import Forest
from models.features import Array, measured, transform
from models.history import learned
from models.modelfile import load
from models.pipeline import Core, Models
from models.policy import Guards, Policy, Rule
from models.records.manifest import Stage
from models.records.order import Action
from models.records.telemetry import Batch, Tick
from models.records.verdict import Level
from models.replay import Recorded, Replay
from streams.replaying import Decided, compared, ordered, replayed
from streams.training import HELD_OUT, NotEarned, TooLittle, candidate, gathered
from tests.core.fleet import START_NS, TX, Lineage, exfiltration

STEP_S = 5.0
END_S = 1_500
SECOND_NS = 10**9
WINDOW = (START_NS, START_NS + END_S * SECOND_NS)


@dataclass
class Kept:
    """A log in memory, two partitions, as an archive would give it back."""

    log: list[Recorded] = field(default_factory=list)
    offsets: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def span(self) -> tuple[int, int]:
        return self.log[0].arrived_ns, self.log[-1].arrived_ns + 1

    def partitions(self) -> int:
        return 2

    def records(
        self, from_ns: int, until_ns: int, partitions: Sequence[int] = ()
    ) -> Iterator[Recorded]:
        end_ns = until_ns or 2**62
        for place in partitions or (0, 1):
            mine = [one for one in self.log if one.partition == place]
            self.offsets[str(place)] = (0, len(mine))
            yield from (one for one in mine if from_ns <= one.arrived_ns < end_ns)


def kept(
    attack_s: float = 1e9, scope: str = "default", kinds: Sequence[str] = ("web", "database")
) -> Kept:
    source = Kept()
    lineages = [Lineage(kind, 5, STEP_S) for kind in kinds]
    story = exfiltration(attack_s)
    while lineages[0].now_s < END_S - STEP_S:
        for at, lineage in enumerate(lineages):
            for arrival in lineage.next(story if at == 0 else None):
                assert not isinstance(arrival.record, Tick)
                record = replace(arrival.record, scope=scope)
                place = partition_of(record.group.encode(), 2)
                source.log.append(Recorded(place, 0, record, arrival.arrived_ns))
        if lineages[0].now_s % 10 == 0:
            now_ns = START_NS + int(lineages[0].now_s * 1e9)
            source.log += [Recorded(place, 0, Tick(now_ns), now_ns) for place in (0, 1)]
    return source


CALM, ATTACKED = kept(), kept(attack_s=1_200)


def test_the_same_window_and_seed_give_the_same_file() -> None:
    """A manifest names a model by its hash; a training that can't be repeated proves nothing."""
    first, content = candidate(CALM, "default", *WINDOW, now_ns=WINDOW[1])
    again, same = candidate(CALM, "default", *WINDOW, now_ns=WINDOW[1] + 9)
    other, _ = candidate(CALM, "default", *WINDOW, now_ns=WINDOW[1], seed=7)

    assert same == content
    assert (again.uid, again.sha256) == (first.uid, first.sha256)
    assert other.sha256 != first.sha256
    assert first.stage is Stage.CANDIDATE
    assert load(content, first.sha256).features == first.features


def test_a_model_knows_what_containers_were_like_in_its_window() -> None:
    """Learned from what came before the part that is held out, by what evaluate learns by."""
    manifest, content = candidate(CALM, "default", *WINDOW, now_ns=WINDOW[1])
    seen: dict[str, dict[str, list[Array]]] = {}
    split_ns = WINDOW[1] - int((WINDOW[1] - WINDOW[0]) * HELD_OUT)
    for record in (one.record for one in CALM.log if one.arrived_ns < split_ns):
        if isinstance(record, Batch):
            of = seen.setdefault(record.group, {})
            rows = transform(measured(record.samples)).astype(np.float32).astype(np.float64)
            for subject, row in zip(record.samples.subjects, rows, strict=True):
                of.setdefault(subject, []).append(row)

    histories = load(content, manifest.sha256).histories

    assert histories.keys() == seen.keys()
    for group, of in seen.items():
        expected = learned([np.array(rows) for rows in of.values()])
        assert np.array_equal(histories[group].spread, expected.spread)
        assert np.array_equal(histories[group].residual.whitening, expected.residual.whitening)
        assert histories[group].tail == expected.tail
    assert manifest.detail is not None
    assert (manifest.detail["histories"], manifest.detail["groups_left_out"]) == ("2", "0")


def test_what_an_attack_was_like_is_no_history() -> None:
    """Once somebody is called, what his lineage does teaches nothing more."""
    late_ns = START_NS + 3_000 * SECOND_NS
    calm, attacked = (
        load(content, manifest.sha256).histories["default/shop/web/"]
        for manifest, content in (
            candidate(source, "default", START_NS, late_ns, now_ns=late_ns)
            for source in (CALM, ATTACKED)
        )
    )
    assert attacked.high[TX] < 1.5 * calm.high[TX]
    assert attacked.tail.blocks < calm.tail.blocks


def test_what_is_held_out_is_not_trained_on_and_its_alarms_are_told() -> None:
    """An evaluation on what it has seen flatters every model."""
    calm, content = candidate(CALM, "default", *WINDOW, now_ns=WINDOW[1])
    attacked, same = candidate(ATTACKED, "default", *WINDOW, now_ns=WINDOW[1])

    assert same == content
    assert calm.evaluation is not None
    assert attacked.evaluation is not None
    assert (calm.evaluation.alarms, calm.evaluation.alarms_without) == ({}, {})
    assert attacked.evaluation.alarms["compromised"] == 1
    (image,) = attacked.evaluation.alarms_by_image
    assert image.startswith("shop/web")
    assert attacked.evaluation.samples == calm.evaluation.samples > 600
    assert attacked.evaluation.surprise["1"] > calm.evaluation.surprise["0.5"]
    assert calm.offsets == {"0": (0, len([o for o in CALM.log if o.partition == 0])),
                            "1": (0, len([o for o in CALM.log if o.partition == 1]))}  # fmt: skip


def test_staging_learns_nothing_from_production() -> None:
    """And says that there is too little, rather than training on a handful."""
    with pytest.raises(TooLittle, match="needed are 256"):
        candidate(CALM, "staging", *WINDOW, now_ns=WINDOW[1])


def test_rows_are_thinned_evenly_and_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three days of a large fleet must fit into memory."""
    every = gathered(Replay(Core(), at_once=1), CALM, "default", 0, 0).rows
    monkeypatch.setattr("streams.training.MOST_ROWS", 100)

    some = gathered(Replay(Core(), at_once=1), CALM, "default", 0, 0).rows

    assert 50 <= len(some) <= 100 < len(every)
    assert {tuple(row) for row in some} <= {tuple(row) for row in every}


# ---- replay -------------------------------------------------------------------------------


def test_only_the_window_is_told_and_all_before_it_is_learned_from() -> None:
    """Judged from its beginning, a window would be nothing but new images."""
    late = (START_NS + 1_100 * SECOND_NS, WINDOW[1])

    told = replayed(ATTACKED, Core(), Policy(), "default", late)

    assert {f.verdict.level for f in told.alarms()} == {Level.COMPROMISED}
    assert all(late[0] <= one.at_ns < late[1] for one in told.verdicts)
    assert all(one.learned > 0.9 for one in told.summaries)
    assert (
        0
        < told.samples
        < sum(len(one.record.samples) for one in ATTACKED.log if isinstance(one.record, Batch))
    )


def test_a_policy_is_held_to_what_it_would_order_with_its_guards() -> None:
    """Its mode does not matter: the question is what it would do once it may."""
    isolate = Policy()
    annotate = Policy(rules=(Rule((Level.COMPROMISED,), Action.ANNOTATE),))
    never = Policy(guards=Guards(per_hour=0))

    told = [
        replayed(ATTACKED, Core(), one, "default", WINDOW) for one in (isolate, annotate, never)
    ]

    assert [one.isolations for one in told] == [1, 0, 0]
    assert [order.action for order in ordered(told[1].findings, isolate)] == [Action.ISOLATE]


def test_another_model_counts_from_the_window_on_and_what_differs_is_listed() -> None:
    """Before it the models of the time judge, or the baselines would be others."""
    late = (START_NS + 1_100 * SECOND_NS, WINDOW[1])
    manifest, content = candidate(CALM, "default", *WINDOW, now_ns=WINDOW[1])
    forest = Forest(load(content, manifest.sha256, manifest.uid))
    then = Core()

    asked = Core(Models(((0, forest),)))
    would = replayed(ATTACKED, asked, Policy(), "default", late, then)
    was = replayed(ATTACKED, then, Policy(), "default", late)
    whole = replayed(ATTACKED, asked, Policy(), "default", WINDOW, then)

    assert {one.model for one in would.verdicts + would.summaries} <= {manifest.uid}
    assert {one.model for one in whole.summaries} == {manifest.uid}
    difference = compared(was, would)
    assert difference.same + len(difference.new) == len(would.alarms())
    assert compared(Decided(), was).new == tuple(f.verdict for f in was.alarms())
    assert compared(was, Decided()).gone == tuple(f.verdict for f in was.alarms())


@functools.cache
def mixed() -> Kept:
    """A fleet of which one image does next to nothing: what is rare there, others do all day."""
    return kept(kinds=("web", "database", "idle"))


def test_an_image_that_has_earned_it_gets_a_forest_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trained on its rows alone, and it serves nobody else; too short a history is refused."""
    with pytest.raises(TooLittle, match="leave it to the fleet's"):
        candidate(mixed(), "default", *WINDOW, now_ns=WINDOW[1], lineage="shop/idle")
    monkeypatch.setattr("streams.training.LEAST_OWN_ROWS", 300)

    own, content = candidate(mixed(), "default", *WINDOW, now_ns=WINDOW[1], lineage="shop/idle")
    fleet, _ = candidate(mixed(), "default", *WINDOW, now_ns=WINDOW[1])

    assert (own.lineage, fleet.lineage) == ("shop/idle", "")
    assert 300 <= own.rows < fleet.rows
    assert own.evaluation is not None
    assert fleet.evaluation is not None
    assert own.evaluation.samples < fleet.evaluation.samples
    assert own.evaluation.quiet == own.evaluation.samples
    assert own.evaluation.rarer["10"] > own.evaluation.rarer_fleet["10"]
    assert fleet.evaluation.rarer_fleet == {}
    forest = Forest(load(content, own.sha256, own.uid))
    late = (START_NS + 1_100 * SECOND_NS, WINDOW[1])
    asked = Core(Models(own={"shop/idle": ((0, forest),)}))
    would = replayed(mixed(), asked, Policy(), "default", late, Core())
    named = {(one.lineage, one.model) for one in would.summaries}
    assert ("shop/idle", own.uid) in named
    assert {model for lineage, model in named if lineage != "shop/idle"} == {""}


def test_a_forest_of_its_own_is_earned_by_what_it_knows_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows alone earn nothing: an image like the others is best served by what all have shown."""
    monkeypatch.setattr("streams.training.LEAST_OWN_ROWS", 300)
    twins = kept(kinds=("web",))

    with pytest.raises(NotEarned) as refused:
        candidate(twins, "default", *WINDOW, now_ns=WINDOW[1], lineage="shop/web")

    told = str(refused.value)
    for said in ("has not earned", "one in 10:", "quiet samples held out", "longer window"):
        assert said in told


def test_what_was_called_is_no_quiet_sample() -> None:
    """A forest that finds an attack rare breaks no promise."""
    calm, _ = candidate(CALM, "default", *WINDOW, now_ns=WINDOW[1])
    attacked, _ = candidate(ATTACKED, "default", *WINDOW, now_ns=WINDOW[1])

    assert calm.evaluation is not None
    assert attacked.evaluation is not None
    assert calm.evaluation.quiet == calm.evaluation.samples
    assert 100 < attacked.evaluation.quiet < attacked.evaluation.samples - 100


def test_a_record_that_fails_goes_alone_in_replay_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live it becomes one dead letter; a replay that ends there would tell nothing."""
    import models.replay as module
    from models.pipeline import judge

    def fails_on_web(states: object, arrivals: list[object], core: Core) -> object:
        if any("web" in arrival.group for arrival in arrivals):  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return judge(states, arrivals, core)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(module, "judge", fails_on_web)
    replay = Replay(Core())
    for _ in replay.run(CALM.records(0, 0)):
        pass

    assert replay.unjudged == sum("web" in getattr(o.record, "group", "") for o in CALM.log)
    assert [g for states in replay.states.values() for g in states] == ["default/shop/database/"]
    assert np.isfinite(replay.samples)
