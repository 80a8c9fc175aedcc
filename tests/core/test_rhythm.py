"""What comes at the same time every day is usual; what is more, or comes with facts, is not."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import pytest

from models.features import Array
from models.learning import meet_image
from models.normal import habits, lacking
from models.pipeline import Core
from models.records.facts import Fact, Program
from models.records.verdict import Level
from models.rhythm import DAY_NS, SLOT_NS, SLOTS, Rhythm, noted, stretches, usual, vetoed
from models.state import pack, unpack
from tests.core.fleet import CPU, START_NS, TX, Lineage, Story, Watch, connection

HOUR_NS = 3_600 * 10**9
CPU_NAME = "cpu_cores"
STEP_S = 60.0
NIGHT_S = 2 * 3_600.0


def seen(*whens_ns: int, height: float = 4.0) -> Rhythm:
    rhythm: Rhythm = {}
    for when_ns in whens_ns:
        rhythm = noted(rhythm, CPU_NAME, when_ns, height)
    return rhythm


def test_two_days_make_a_habit_and_one_does_not() -> None:
    """Once is what an attacker does."""
    assert usual(seen(0, HOUR_NS), CPU_NAME, DAY_NS, 4.0) == 0
    assert usual(seen(0, DAY_NS), CPU_NAME, 2 * DAY_NS, 4.0) == 2
    assert usual(seen(0, DAY_NS, 2 * DAY_NS), CPU_NAME, 3 * DAY_NS, 4.0) == 3


def test_a_habit_has_its_hour_its_height_and_its_feature() -> None:
    """Anything else at that time, or the same at another, is as odd as ever."""
    habit = seen(5 * SLOT_NS, DAY_NS + 5 * SLOT_NS)
    now_ns = 2 * DAY_NS + 5 * SLOT_NS
    assert usual(habit, CPU_NAME, now_ns + SLOT_NS, 4.0)
    assert usual(habit, CPU_NAME, now_ns - SLOT_NS, 4.2)
    assert not usual(habit, CPU_NAME, now_ns + 2 * SLOT_NS, 4.0)
    assert not usual(habit, CPU_NAME, now_ns, 4.6)
    assert not usual(habit, "processes", now_ns, 4.0)


def test_midnight_parts_no_habit_and_doubles_no_day() -> None:
    """A job at about midnight is one a night, on whichever side it begins."""
    end_ns = DAY_NS - SLOT_NS // 2
    assert usual(seen(end_ns, 2 * DAY_NS + 1), CPU_NAME, 2 * DAY_NS + end_ns, 4.0) == 2
    assert usual(seen(end_ns, DAY_NS + 1), CPU_NAME, DAY_NS + end_ns, 4.0) == 0


def test_a_habit_that_was_given_up_is_forgotten_and_there_is_never_much_of_it() -> None:
    """State is bounded, whatever a container does."""
    assert not usual(seen(0, DAY_NS), CPU_NAME, 10 * DAY_NS, 4.0)
    rhythm: Rhythm = {}
    for at in range(500):
        rhythm = noted(rhythm, f"feature{at % 15}", at * SLOT_NS, 4.0)
    assert len(rhythm) <= 96


def test_an_incident_takes_back_what_was_noted_in_it() -> None:
    """What led to it is no habit in the making."""
    assert vetoed(seen(0, DAY_NS), DAY_NS + HOUR_NS) == seen(0)


def test_what_is_told_as_a_habit_is_what_usual_goes_by() -> None:
    """Somebody reads it to know what is no longer called: at each half hour, and up to where."""
    rhythm = seen(47 * SLOT_NS, 2 * DAY_NS + SLOT_NS // 3, 2 * DAY_NS + 47 * SLOT_NS, height=5.0)
    rhythm = noted(rhythm, CPU_NAME, 3 * DAY_NS + 20 * SLOT_NS, 3.0)
    now_ns = 4 * DAY_NS

    told = stretches(rhythm, now_ns)

    (night,) = (one for one in told if one.is_habit)
    assert {(night.first + step) % SLOTS for step in range(night.slots)} == {46, 47, 0}
    assert (night.days, night.last_ns) == (3, 2 * DAY_NS + 47 * SLOT_NS)
    (once,) = (one for one in told if one.first == 19)
    assert (once.slots, once.days, once.is_habit) == (3, 1, False)
    for slot in range(SLOTS):
        at_ns = now_ns + slot * SLOT_NS
        held = (slot - night.first) % SLOTS < night.slots
        assert bool(usual(rhythm, CPU_NAME, at_ns, night.most - 1e-9)) is held
        assert not usual(rhythm, CPU_NAME, at_ns, night.most + 1e-9)


def test_of_two_heights_the_lower_one_bounds_a_habit() -> None:
    """Twice as much was seen once only: that alone is no habit."""
    rhythm = noted(seen(0, height=9.0), CPU_NAME, DAY_NS, 4.0)

    (one,) = stretches(rhythm, DAY_NS)

    assert one.most == 4.5
    assert usual(rhythm, CPU_NAME, 2 * DAY_NS, 4.5) == 2
    assert not usual(rhythm, CPU_NAME, 2 * DAY_NS, 4.6)
    assert stretches(rhythm, 12 * DAY_NS) == [], "what was given up is not told"


def night_job(cores: float, fact: Fact | None = None) -> Story:
    def apply(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        since_s = lineage.now_s % 86_400 - NIGHT_S
        if place == 0 and 0 <= since_s < 1_800:
            row[CPU] += cores
            if fact is not None:
                facts.append(fact)

    return apply


@functools.cache
def two_nights() -> tuple[Lineage, Watch]:
    """Shared, so never to be changed: two days on which the job was called."""
    lineage, watch = Lineage("database", 4, STEP_S), Watch(Core())
    watch.run([lineage], 2 * 86_400, night_job(3.0))
    return lineage, watch


def test_habits_survive_a_restart() -> None:
    """A worker that takes over knows the nights that another one saw."""
    _, watch = two_nights()
    (state,) = watch.states.values()
    (before,), (after,) = state.images.values(), unpack(pack(state)).images.values()
    assert before.rhythm
    assert after.rhythm == before.rhythm


def test_people_read_a_habit_in_its_own_unit_and_time() -> None:
    """The job takes three cores more from two to half past two."""
    _, watch = two_nights()
    (state,) = watch.states.values()
    (image,) = state.images.values()
    began_s = START_NS // 10**9 + int(NIGHT_S)

    told = [one for one in habits(image, state.now_ns) if one.feature == CPU_NAME]

    (night,) = told
    assert (night.unit, night.days, night.usual) == ("cores", 2, True)
    assert 3.0 < night.most < 6.5
    assert (began_s - night.from_s) % 86_400 < 3_600
    assert (night.until_s - began_s) % 86_400 <= 2 * 3_600
    assert lacking(tuple(told), ()) == told
    assert lacking(tuple(told), (replace(night, from_s=began_s % 86_400),)) == []
    elsewhere = replace(night, from_s=night.until_s, until_s=(night.until_s + 1_800) % 86_400)
    assert lacking(tuple(told), (elsewhere,)) == told


def third_day(story: Story) -> list[Level]:
    lineage, watch = copy.deepcopy(two_nights())
    watch.findings.clear()
    watch.run([lineage], 12 * 3_600, story)
    return [finding.verdict.level for finding in watch.findings]


def test_a_nightly_job_is_called_twice_and_then_no_more() -> None:
    """Who is called every night for the same stops reading."""
    _, watch = two_nights()
    called = [f for f in watch.findings if f.verdict.level is Level.CORRUPTED]
    days = {(f.verdict.at_ns - START_NS) // DAY_NS for f in called}
    assert days == {0, 1}

    levels = third_day(night_job(3.0))

    assert Level.WATCH in levels, "it is still told, as a word"
    assert max(level.rank for level in levels) == Level.WATCH.rank


@pytest.mark.parametrize(
    ("story", "level"),
    [
        (night_job(9.0), Level.CORRUPTED),
        (night_job(3.0, Program("/tmp/x", in_image=False, parent="")), Level.COMPROMISED),
    ],
    ids=["three times the work", "a dropped program"],
)
def test_a_habit_excuses_nothing_else(story: Story, level: Level) -> None:
    """An attacker who waits for the nightly job gains its size, no more."""
    assert level in third_day(story)


def test_what_an_incident_began_with_is_taken_back() -> None:
    """The work came first, the proof ten minutes later: neither is a habit in the making."""
    lineage, watch = copy.deepcopy(two_nights())
    proof = Program("/tmp/x", in_image=False, parent="")

    def story(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        late = lineage.now_s % 86_400 - NIGHT_S >= 600
        night_job(3.0, proof if late else None)(lineage, place, row, facts)

    watch.run([lineage], 12 * 3_600, story)

    (state,) = watch.states.values()
    (image,) = state.images.values()
    beats = [at_ns for kept in image.rhythm.values() for at_ns, _ in kept]
    assert beats, "the first two nights are still known"
    assert max(beats) < START_NS + 2 * DAY_NS


def test_a_new_version_knows_the_habits_of_the_one_before() -> None:
    """A deploy does not change when backups run."""
    state = next(iter(two_nights()[1].states.values())).copy()
    (before,) = state.images.values()
    meet_image(state, "shop/database@sha256:next", state.now_ns)
    after = state.images["shop/database@sha256:next"]
    assert after.rhythm == before.rhythm
    assert after.together is before.together
    assert after.onset_tail == before.onset_tail


def at_night(row_too: bool) -> Story:
    """Twenty minutes with a stranger, by a program that had never run; and 10 MB/s, or not."""

    def story(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and 0 <= lineage.now_s % 86_400 - NIGHT_S < 1_200:
            facts.append(Program("/usr/bin/dump", in_image=True, parent="/bin/sh"))
            facts.append(connection("198.51.100.77:9000", int(1e7 if row_too else 400) * 60))
            row[TX] += 1e7 * row_too

    return story


@pytest.mark.parametrize(
    ("row_too", "level", "days"),
    [(False, Level.SUSPECT, {0, 1}), (True, Level.COMPROMISED, {0, 1, 2})],
    ids=["a backup", "an exfiltration"],
)
def test_facts_of_two_nights_are_a_habit_unless_they_condemn(
    row_too: bool, level: Level, days: set[int]
) -> None:
    """What is called twice and harms nobody is known then; who takes the data is called again."""
    lineage, watch = Lineage("idle", 6, STEP_S, siblings=2), Watch(Core())

    watch.run([lineage], 3 * 86_400, at_night(row_too))

    called = [f for f in watch.findings if f.verdict.level.rank >= Level.SUSPECT.rank]
    assert max(f.verdict.level.rank for f in called) == level.rank
    assert {(f.verdict.at_ns - START_NS) // DAY_NS for f in called} == days
    (state,) = watch.states.values()
    assert unpack(pack(state)).facts.seen == state.facts.seen, "another worker knows the days, too"
    second = next(f for f in called if f.verdict.at_ns >= START_NS + DAY_NS).verdict
    assert any("first seen of this image 24 h ago" in r.text for r in second.reasons) != row_too
