"""The whole path: deterministic, indifferent to how the log is cut, deaf to what came before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import features
from models.detectors.forest import Forest
from models.errors import MalformedRecord
from models.features import Array
from models.pipeline import Arrival, Core, Models, check_arrival, deviations, judge, tick
from models.records.codec import encode
from models.records.facts import BootIdentity, Coverage, Exec, Fact, Lifecycle, Observation, Program
from models.records.samples import Samples
from models.records.telemetry import Batch, Sightings, Tick
from models.records.verdict import Family, Level
from models.state import pack, unpack
from models.training import fit
from tests.core.fleet import START_NS, Lineage, Story, Watch, connection, exfiltration

FOREST = Forest(fit(np.random.default_rng(5).normal(0, 1, (600, features.SIZE)), features.NAMES, 5))
CORE = Core(Models(((START_NS + 200 * 10**9, FOREST),)))


def log() -> list[Arrival]:
    """Three groups side by side, an attack in one, ticks between."""
    lineages = [Lineage("web", 1, 5.0), Lineage("worker", 1, 5.0), Lineage("idle", 1, 5.0)]
    story, arrivals = exfiltration(700.0), []
    while lineages[0].now_s < 780:
        for at, lineage in enumerate(lineages):
            arrivals += lineage.next(story if at == 0 else None)
        if lineages[0].now_s % 10 == 0:
            now_ns = START_NS + int(lineages[0].now_s * 1e9)
            arrivals += [Arrival(lin.group, Tick(now_ns), now_ns) for lin in lineages]
    return arrivals


LOG = log()


def spoken(watch: Watch) -> list[bytes]:
    return sorted(map(encode, [*watch.verdicts, *watch.findings, *watch.summaries]))


def in_calls(cuts: list[int], *, packed: bool = False) -> Watch:
    watch, start = Watch(CORE), 0
    for end in [*sorted(cuts), len(LOG)]:
        watch.take(judge(watch.states, LOG[start:end], CORE))
        start = end
        if packed:
            watch.states = {group: unpack(pack(state)) for group, state in watch.states.items()}
    return watch


ONE_BY_ONE = in_calls(list(range(len(LOG))))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, len(LOG)), max_size=40), st.booleans())
def test_however_the_log_is_cut_the_verdicts_are_the_same(cuts: list[int], packed: bool) -> None:
    """Replay proves nothing if it depends on what happened to arrive together."""
    watch = in_calls(cuts, packed=packed)

    assert spoken(watch) == spoken(ONE_BY_ONE)
    for group, state in watch.states.items():
        assert pack(state) == pack(ONE_BY_ONE.states[group])


def test_the_log_of_that_test_holds_something_to_judge() -> None:
    """Silence would be equal to silence."""
    assert {v.level for v in ONE_BY_ONE.verdicts} >= {Level.WATCH, Level.COMPROMISED}
    assert {v.model for v in ONE_BY_ONE.verdicts} == {""}
    assert len(ONE_BY_ONE.summaries) > 30


def test_judging_changes_no_state_that_was_passed_in() -> None:
    """The caller keeps the old one until outputs are durable."""
    watch = in_calls([])
    before = {group: pack(state) for group, state in watch.states.items()}
    lineage = Lineage("web", 1, 5.0, now_s=780.0)

    judge(watch.states, lineage.next(exfiltration(0.0)), CORE)

    assert {group: pack(state) for group, state in watch.states.items()} == before


def test_samples_that_come_twice_are_dropped_and_counted() -> None:
    """Gather makes some things twice after a crash; once is what happened."""
    watch = in_calls([])
    batch = next(a for a in reversed(LOG) if isinstance(a.record, Batch))
    assert isinstance(batch.record, Batch)
    before = watch.states[batch.group].members.grid.copy()

    again = judge(watch.states, [batch], CORE)

    assert again.duplicates == len(batch.record.samples)
    np.testing.assert_array_equal(again.states[batch.group].members.grid, before)


def test_a_record_from_the_future_is_refused() -> None:
    """One wrong clock would otherwise carry the whole lineage's time away."""
    record = LOG[0].record
    check_arrival(record, record.at_ns - 200 * 10**9)
    with pytest.raises(MalformedRecord) as refusal:
        check_arrival(record, record.at_ns - 301 * 10**9)
    assert refusal.value.fault == "misdated"


def test_a_tick_touches_only_what_is_due() -> None:
    """A partition holds many groups; most have nothing due."""
    watch = in_calls([])
    due_ns = min(state.due_ns for state in watch.states.values())

    assert not tick(watch.states, Tick(due_ns - 1), CORE).states
    assert tick(watch.states, Tick(due_ns), CORE).states


def test_a_member_that_falls_silent_is_noticed_and_later_forgotten() -> None:
    """Somebody who stops the collector first must not vanish without a word."""
    lineage, watch = Lineage("web", 2, 5.0), Watch(Core())
    watch.run([lineage], 300)
    gone = lineage.pods.pop().member.subject
    watch.run([lineage], 90)

    silent = [f.verdict for f in watch.findings if f.verdict.subject == gone]
    assert [(v.level, v.families) for v in silent[:1]] == [(Level.WATCH, (Family.COVERAGE,))]
    watch.run([lineage], 1_000)
    assert gone not in watch.states[lineage.group].members.rows


def test_a_member_that_was_stopped_is_not_called_silent() -> None:
    """Stopping a container is no loss of sight."""
    lineage, watch = Lineage("web", 2, 5.0), Watch(Core())
    watch.run([lineage], 300)
    member, at_ns = lineage.pods.pop().member, START_NS + 300 * 10**9
    ended = Observation(member.subject, at_ns, Lifecycle("die", 0))
    record = Sightings("default", lineage.name, "", (member,), (ended,))
    watch.take(judge(watch.states, [Arrival(lineage.group, record, at_ns)], watch.core))
    watch.run([lineage], 120)

    assert not [f for f in watch.findings if f.verdict.subject == member.subject]


def test_unknown_features_are_passed_over_and_missing_ones_are_no_zeros() -> None:
    """A newer collector must not upset an older judge, nor a poorer one look like a calm."""
    lineage = Lineage("web", 1, 5.0)
    record = lineage.next()[0].record
    assert isinstance(record, Batch)
    s = record.samples
    more = Samples((*s.features, "gpu"), s.subjects, s.index, s.times_ns,
                   np.vstack([s.columns, np.full(len(s), 9.0)]))  # fmt: skip
    fewer = Samples(s.features[:3], s.subjects, s.index, s.times_ns, s.columns[:3])

    for samples in (more, fewer):
        changed = dataclasses.replace(record, samples=samples)
        state = judge({}, [Arrival(lineage.group, changed, record.at_ns)], Core()).states
        last = state[lineage.group].members.grid[:, 0, features.INDEX["processes"]]
        assert np.isnan(last).all() == (samples is fewer)


def test_the_trainer_sees_what_the_forest_sees() -> None:
    """A second path to the same rows would drift away from the first."""
    watch = in_calls([])
    lineage = Lineage("web", 1, 5.0, now_s=780.0)
    record = lineage.next()[0].record
    assert isinstance(record, Batch)

    rows = deviations(watch.states, record)

    assert rows.shape == (len(record.samples), features.SIZE)
    assert np.isfinite(rows).all()
    assert judge(watch.states, [Arrival(record.group, record, record.at_ns)], CORE).states


def sighted(watch: Watch, lineage: Lineage, fact: Fact, times: int = 1) -> None:
    member = lineage.pods[0].member
    for _ in range(times):
        at_ns = max(state.now_ns for state in watch.states.values()) + 10**9
        seen = Observation(member.subject, at_ns, fact)
        record = Sightings("default", lineage.name, "", (member,), (seen,))
        watch.take(judge(watch.states, [Arrival(lineage.group, record, at_ns)], watch.core))


def known(kind: str = "web") -> tuple[Lineage, Watch]:
    lineage, watch = Lineage(kind, 4, 5.0), Watch(Core())
    watch.run([lineage], 900)
    return lineage, watch


def test_one_bad_end_is_bad_luck_three_are_a_crash_loop() -> None:
    """Restarting what crashes once would hide the cause of the next crash."""
    lineage, watch = known()
    sighted(watch, lineage, Lifecycle("die", 1), times=2)
    assert watch.worst().rank <= Level.WATCH.rank
    sighted(watch, lineage, Lifecycle("die", 1))
    assert watch.worst() is Level.CORRUPTED


def test_running_out_of_memory_is_a_fault() -> None:
    """The kernel has judged already."""
    lineage, watch = known()
    sighted(watch, lineage, Lifecycle("oom", None, out_of_memory=True))
    assert watch.worst() is Level.CORRUPTED


def test_a_command_in_a_container_where_nobody_runs_any_makes_a_suspect() -> None:
    """An exec is how people get in by the front door."""
    lineage, watch = known()
    sighted(watch, lineage, Exec("sh -i", by="mallory"))
    assert watch.worst() is Level.SUSPECT


def test_commands_that_belong_to_a_lineage_are_dull() -> None:
    """A health check runs a command every few seconds."""
    lineage, watch = Lineage("web", 4, 5.0), Watch(Core())
    watch.run([lineage], 20)
    sighted(watch, lineage, Exec("curl localhost"))
    watch.run([lineage], 900)
    sighted(watch, lineage, Exec("curl localhost"))
    assert watch.worst().rank <= Level.WATCH.rank


def test_less_sight_is_told_but_accuses_nobody() -> None:
    """A gap is ours, not the container's."""
    lineage, watch = known()
    sighted(watch, lineage, Coverage("lost-frames", missing=3))
    assert watch.worst() is Level.WATCH


def test_findings_of_one_lineage_are_bounded_and_none_is_lost() -> None:
    """A thousand siblings that fall together must not drown the governor, nor hide."""
    lineage = Lineage("web", 6, 5.0, siblings=50)
    watch = Watch(Core())
    watch.run([lineage], 600)

    def all_run_something(_: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        facts.append(Program("/tmp/agent", in_image=False))

    watch.run([lineage], 5, all_run_something)
    first = [f for f in watch.findings if f.verdict.level is Level.COMPROMISED]
    watch.run([lineage], 180)
    later = [f for f in watch.findings if f.verdict.level is Level.COMPROMISED]

    assert len(first) == watch.core.detection.findings_per_minute
    assert len({f.verdict.subject for f in later}) == 50
    assert any("had to wait" in r.text for f in later for r in f.verdict.reasons)
    assert any("of its siblings do, too" in r.text for f in later for r in f.verdict.reasons)


@pytest.mark.parametrize("siblings", [2, 3, 8])
def test_a_program_dropped_into_all_siblings_at_once_condemns_them_all(siblings: int) -> None:
    """Who gets into one gets into all; what siblings share may excuse everything else."""
    lineage, watch = Lineage("web", 6, 5.0, siblings=siblings), Watch(Core())
    watch.run([lineage], 900)

    def drop(_: Lineage, __: int, ___: Array, facts: list[Fact]) -> None:
        facts.append(Program("/tmp/agent", in_image=False))

    watch.run([lineage], 5, drop)
    watch.run([lineage], 300)

    found = {f.verdict.subject for f in watch.findings if f.verdict.level is Level.COMPROMISED}
    assert len(found) == siblings
    assert not watch.states[lineage.group].facts.normal("drop /tmp/agent")


def test_a_program_that_a_new_image_does_not_have_is_said_while_it_is_learned() -> None:
    """Who brings one in the first minutes is part of what is normal; it leaves a trace."""
    lineage, watch = Lineage("web", 4, 5.0), Watch(Core())
    watch.run([lineage], 20)
    sighted(watch, lineage, Program("/tmp/x", in_image=False))
    assert watch.worst() is Level.WATCH
    watch.run([lineage], 900)
    before = len(watch.findings)

    sighted(watch, lineage, Program("/tmp/x", in_image=False))

    assert not [one for one in watch.findings[before:] if one.verdict.level.rank > 1]


@pytest.mark.parametrize(("login", "level"), [("root", Level.WATCH), ("", Level.SUSPECT)])
def test_who_works_on_a_host_by_hand_is_watched_no_more(login: str, level: Level) -> None:
    """Whom a person at a terminal talks to is as new as what he runs; a service that starts
    another program, which talks to a stranger, is another matter.
    """
    lineage, watch = Lineage("database", 4, 5.0, siblings=2, name="host/pool"), Watch(Core())
    watch.run([lineage], 900)

    sighted(watch, lineage, Program("/usr/bin/curl", parent="/bin/bash", login=login))
    sighted(watch, lineage, connection("203.0.113.9:443"))

    assert watch.worst() is level
    texts = [r.text for f in watch.findings for r in f.verdict.reasons]
    assert any("who has logged in" in text for text in texts) == bool(login)


def test_a_new_country_is_told_of_a_new_peer_alone() -> None:
    """Files of places change, and come to a fleet that is long known: that is no news."""
    lineage, watch = Lineage("database", 3, 5.0), Watch(Core())
    watch.run([lineage], 900, meets("203.0.113.50", ""))
    assert watch.worst() is Level.QUIET

    watch.run([lineage], 60, meets("203.0.113.50", "NL"))
    assert watch.worst() is Level.QUIET
    watch.run([lineage], 10, meets("203.0.113.99", "BR"))

    texts = [r.text for f in watch.findings for r in f.verdict.reasons]
    assert any(t.startswith("talks to somebody in BR, at 203.0.113.99") for t in texts)
    assert not any("NL" in text for text in texts)


def meets(peer: str, country: str) -> Story:
    """One of them talks to somebody."""

    def story(_: Lineage, place: int, __: Array, facts: list[Fact]) -> None:
        if place == 0:
            facts.append(dataclasses.replace(connection(f"{peer}:443", 400), peer_country=country))

    return story


def test_a_release_with_other_settings_is_said_once() -> None:
    """Ten replicas that roll out are one change, not ten."""
    lineage, watch = Lineage("web", 4, 5.0), Watch(Core())
    watch.run([lineage], 900)
    before = len(watch.findings)
    changed = {"HOST": "h", "LD_PRELOAD": "/lib/x.so"}

    for place in range(3):
        subject = lineage.pods[place].member.subject
        boot = BootIdentity(lineage.image, ("server",), environment=changed)
        watch.run([lineage], 60, starts(subject, boot))

    called = [f for f in watch.findings[before:] if f.verdict.level is Level.SUSPECT]
    assert [f.verdict.subject for f in called] == [lineage.pods[0].member.subject]


def starts(subject: str, boot: BootIdentity) -> Story:
    """One of them says, over and over, that it has started so."""

    def story(lineage: Lineage, place: int, _: Array, facts: list[Fact]) -> None:
        if lineage.pods[place].member.subject == subject:
            facts.append(boot)

    return story


def test_a_condemned_container_teaches_nothing() -> None:
    """Otherwise a patient attacker becomes normal, one small step at a time."""
    lineage, watch = known()
    base = watch.states[lineage.group].images[lineage.image].baseline
    watch.run([lineage], 900, exfiltration(lineage.now_s + 5))

    after = watch.states[lineage.group]
    at = features.INDEX["network_transmit_bytes_per_s"]
    assert abs(after.images[lineage.image].baseline.location[at] - base.location[at]) < 0.6
    assert not after.facts.normal("peer 198.51.100.9:443")
