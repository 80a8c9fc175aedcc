"""Work that comes and goes is no fault; what stays, is more, or comes with facts is one."""

from __future__ import annotations

import copy
import functools

import pytest

from models import spells
from models.features import Array
from models.learning import meet_image, veto
from models.lineage import Image
from models.normal import jobs
from models.pipeline import Core
from models.records.facts import Fact, Program
from models.records.verdict import Level
from models.spells import KEPT_NS, Spells, noted, usual, works
from models.state import pack, unpack
from tests.core.fleet import CPU, START_NS, Lineage, Story, Watch, connection

HOUR_NS = 3_600 * 10**9
S_NS = 10**9
NAME = "cpu_cores"
JOB_S = 300.0


def seen(*begun_ns: int, height: float = 4.0, lasts_s: int = 100) -> Spells:
    known: Spells = {}
    for began in begun_ns:
        for at in range(0, lasts_s + 1, lasts_s // 2):
            known = noted(known, NAME, began, began + at * S_NS, height)
    return known


THREE = seen(0, HOUR_NS, 2 * HOUR_NS)


def again(known: Spells, at_ns: int = 5 * HOUR_NS, lasts_s: int = 100, height: float = 4.0) -> int:
    return usual(known, NAME, at_ns, at_ns + lasts_s * S_NS, height)


def test_three_hours_make_it_usual_and_two_do_not() -> None:
    """Two in one hour are one: a fault that flickers is a fault."""
    assert again(THREE) == 3
    assert again(seen(0, HOUR_NS)) == 0
    assert again(seen(0, 300 * S_NS, 600 * S_NS)) == 0
    assert again(seen(0, 300 * S_NS, HOUR_NS, 2 * HOUR_NS)) == 4


def test_it_has_its_height_its_length_and_its_feature() -> None:
    assert again(THREE, height=4.4)
    assert not again(THREE, height=4.6)
    assert again(THREE, lasts_s=150)
    assert not again(THREE, lasts_s=151)
    assert not usual(THREE, "processes", 5 * HOUR_NS, 5 * HOUR_NS, 4.0)
    once_longer = noted(THREE, NAME, 3 * HOUR_NS, 3 * HOUR_NS + 800 * S_NS, 4.0)
    assert not again(once_longer, lasts_s=151), "once is what an attacker does"


def test_what_still_goes_on_or_went_on_for_long_is_no_job() -> None:
    """Else a fault would excuse itself."""
    assert not usual(seen(0, HOUR_NS, 2 * HOUR_NS), NAME, 2 * HOUR_NS, 2 * HOUR_NS + S_NS, 4.0)
    assert not again(seen(0, HOUR_NS, 2 * HOUR_NS, lasts_s=1_000), at_ns=9 * HOUR_NS)


def test_it_is_forgotten_and_there_is_never_much_of_it() -> None:
    assert not again(THREE, at_ns=2 * HOUR_NS + KEPT_NS + HOUR_NS)
    known: Spells = {}
    for at in range(500):
        known = noted(known, NAME, at * HOUR_NS, at * HOUR_NS + S_NS, 4.0)
    assert len(known[NAME]) == 24


def test_what_is_told_is_what_usual_goes_by() -> None:
    """Somebody reads it to know what is no longer called: up to where, and for how long."""
    known = noted(THREE, NAME, 3 * HOUR_NS, 3 * HOUR_NS + 60 * S_NS, 9.0)
    (one,) = works(known, 5 * HOUR_NS)
    assert (one.times, one.hours, one.is_usual) == (4, 4, True)
    for height in (one.most - 1e-9, one.most + 1e-9):
        assert bool(again(known, lasts_s=1, height=height)) is (height < one.most)
    lasts_s = one.most_ns // S_NS
    assert again(known, lasts_s=lasts_s)
    assert not again(known, lasts_s=lasts_s + 1)
    (young,) = works(seen(0, HOUR_NS), 2 * HOUR_NS)
    assert not young.is_usual


def hourly(cores: float, fact: Fact | None = None, lasts_s: float = JOB_S) -> Story:
    def apply(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if place == 0 and 900 <= lineage.now_s % 3_600 < 900 + lasts_s:
            row[CPU] += cores
            if fact is not None:
                facts.append(fact)

    return apply


@functools.cache
def six_hours() -> tuple[Lineage, Watch]:
    """Shared, so never to be changed."""
    lineage, watch = Lineage("web", 1, 15.0, siblings=2), Watch(Core())
    watch.run([lineage], 3_600)
    watch.run([lineage], 6 * 3_600, hourly(1.0))
    return lineage, watch


def image_of(watch: Watch) -> Image:
    (state,) = watch.states.values()
    (image,) = state.images.values()
    return image


def test_a_job_every_hour_is_called_three_times() -> None:
    """Who is called every hour for the same stops reading, and a container that is redeployed
    in the middle of its work never ends it.
    """
    _, watch = six_hours()
    called = [f.verdict for f in watch.findings if f.verdict.level is Level.CORRUPTED]
    hours = {(verdict.at_ns - START_NS) // HOUR_NS for verdict in called}
    assert hours == {1, 2, 3}
    assert any("times before" in r.text for v in watch.verdicts for r in v.reasons)


def next_hour(story: Story) -> Level:
    lineage, watch = copy.deepcopy(six_hours())
    watch.findings.clear()
    watch.run([lineage], 3_600, story)
    return watch.worst()


@pytest.mark.parametrize(
    ("story", "level"),
    [
        (hourly(1.0), Level.WATCH),
        (hourly(3.0), Level.CORRUPTED),
        (hourly(1.0, lasts_s=900), Level.CORRUPTED),
        (hourly(1.0, connection("198.51.100.44:3333", 2_000, opened=0)), Level.COMPROMISED),
        (hourly(1.0, Program("/tmp/x", in_image=False, parent="")), Level.COMPROMISED),
    ],
    ids=["as ever", "three times the work", "three times as long", "a pool", "a program"],
)
def test_a_job_excuses_nothing_else(story: Story, level: Level) -> None:
    """An attacker who hides in it gains its size and length, where he brings nothing new."""
    assert next_hour(story) is level


def test_it_survives_a_restart_and_a_release_and_people_read_it() -> None:
    _, watch = six_hours()
    (state,) = watch.states.values()
    image = image_of(watch)
    (again_there,) = unpack(pack(state)).images.values()
    assert image.spells
    assert again_there.spells == image.spells
    other = state.copy()
    meet_image(other, "shop/web@sha256:next", other.now_ns)
    assert other.images["shop/web@sha256:next"].spells == image.spells

    (job,) = [one for one in jobs(image, state.now_ns) if one.feature == NAME]
    assert (job.unit, job.times, job.usual) == ("cores", 6, True)
    assert 1.0 < job.most < 3.0
    assert JOB_S < job.most_s <= 1.5 * (JOB_S + 30)


def test_an_incident_takes_back_what_was_noted_in_the_hours_before() -> None:
    state = next(iter(six_hours()[1].states.values())).copy()
    (image,) = state.images.values()
    veto(state, image.name, Level.COMPROMISED.rank)
    assert image.spells == {}
    assert spells.before(THREE, HOUR_NS) == seen(0)
