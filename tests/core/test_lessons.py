"""What people teach: a dismissal is normal within bounds, what was real never is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.errors import MalformedRecord
from models.features import INDEX, Array
from models.incident import Incident, joined, opened
from models.lessons import MOST, Lessons, calmed
from models.lineage import LineageState
from models.pipeline import Arrival, Core, judge
from models.records.codec import decode, encode
from models.records.control import Verb, Word
from models.records.facts import Connection, Fact, Program
from models.records.lesson import Lesson, Span, Teaching, Usual
from models.records.verdict import Level
from models.state import pack, unpack
from models.tutor import lesson_of
from tests.core.fleet import (
    ATTACKER,
    START_NS,
    TX,
    Lineage,
    Story,
    Watch,
    connection,
    dropped_program,
    exfiltration,
    miner,
)

QUIET_S = 700.0
FIRST_S, AGAIN_S = 700.0, 1_100.0


def between(story: Story, until_s: float) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        if lineage.now_s < until_s:
            story(lineage, place, row, facts)

    return change


def twice(first: Story, again: Story) -> Story:
    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        (again if lineage.now_s >= AGAIN_S else first)(lineage, place, row, facts)

    return change


FIRST = between(exfiltration(FIRST_S), FIRST_S + 60.0)


class Shop:
    """A lineage that shows something, is judged by a person, and shows something again."""

    def __init__(self, story: Story = FIRST, again: Story | None = None) -> None:
        self.lineage, self.watch = Lineage("web", 1, 5.0), Watch(Core())
        self.story = twice(story, again or exfiltration(AGAIN_S))
        self.watch.run([self.lineage], QUIET_S + 100.0, self.story)

    @property
    def state(self) -> LineageState:
        return self.watch.states[self.lineage.group]

    def incident(self) -> Incident:
        findings = [f for f in self.watch.findings if f.verdict.subject == self.attacked]
        incident = opened(findings[0], findings[0].arrived_ns)
        for finding in findings:
            incident = joined(incident, finding, finding.arrived_ns)
        return incident

    @property
    def attacked(self) -> str:
        return self.lineage.pods[0].member.subject

    def lesson(self, verb: Verb, until_s: float = 0.0) -> Lesson:
        said_ns = START_NS + int(self.lineage.now_s * 1e9)
        word = Word(f"w-{verb}", "default", verb, "inc", "ann", said_ns,
                    said_ns + int(until_s * 1e9) if until_s else 0)  # fmt: skip  # one call
        made = lesson_of(self.incident(), word, said_ns)
        assert made is not None
        return made

    def say(self, lesson: Lesson) -> None:
        arrival = Arrival(lesson.group, lesson, lesson.said_ns)
        self.watch.take(judge(self.watch.states, [arrival], self.watch.core))

    def go_on(self, packed: bool = False) -> Level:
        """Until the second time is over; the worst that was found in it."""
        if packed:
            self.watch.states = {g: unpack(pack(s)) for g, s in self.watch.states.items()}
        self.watch.run([self.lineage], AGAIN_S + 90.0 - self.lineage.now_s, self.story)
        return self.watch.worst(AGAIN_S)


def test_the_like_of_it_is_found_again_as_long_as_nobody_speaks() -> None:
    """Otherwise the tests below would show nothing."""
    shop = Shop()

    assert shop.incident().level is Level.COMPROMISED
    assert shop.go_on() is Level.COMPROMISED


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_dismissed_calls_nobody_again(packed: bool) -> None:
    """An operator who has said once that it is a backup must not be called each night."""
    shop = Shop()

    shop.say(shop.lesson(Verb.DISMISS))

    assert shop.go_on(packed).rank <= Level.WATCH.rank
    assert shop.state.facts.dismissed == {"peer 198.51.100.9:443"}


def more(times: float) -> Story:
    inner = exfiltration(AGAIN_S)

    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        before = row[TX]
        inner(lineage, place, row, facts)
        row[TX] = before + (row[TX] - before) * times

    return change


def test_more_than_was_dismissed_is_found() -> None:
    """A dismissal is bounded by what the operator saw: it is no leave to send everything."""
    shop = Shop(again=more(12.0))

    shop.say(shop.lesson(Verb.DISMISS))

    assert shop.go_on().rank >= Level.SUSPECT.rank


def elsewhere(begin_s: float) -> Story:
    inner = exfiltration(begin_s)

    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        inner(lineage, place, row, facts)
        for at, fact in enumerate(facts):
            if isinstance(fact, Connection) and fact.peer == "198.51.100.9":
                facts[at] = replace(fact, peer="203.0.113.66", port=8443)

    return change


def test_another_peer_than_the_dismissed_one_is_told() -> None:
    """The fact was dismissed, not its kind."""
    shop = Shop(again=elsewhere(AGAIN_S))

    shop.say(shop.lesson(Verb.DISMISS))
    shop.go_on()

    told = [v for v in shop.watch.verdicts if v.at_ns >= START_NS + AGAIN_S * 1e9]
    assert any("peer 203.0.113.66:8443" in verdict.facts for verdict in told)


def abroad(story: Story, country: str) -> Story:
    """The attacker is somewhere, and asked for at a port that nobody else is."""
    attacker = connection(ATTACKER, 0).peer

    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        story(lineage, place, row, facts)
        facts[:] = [
            replace(one, peer_country=country, port=8443)
            if isinstance(one, Connection) and one.peer == attacker else one for one in facts
        ]  # fmt: skip  # a condition a line

    return change


def test_what_belongs_to_a_dismissed_peer_is_dismissed_with_it() -> None:
    """Who says that a partner is fine says so of its country and its port."""
    shop = Shop(abroad(FIRST, ""), abroad(exfiltration(AGAIN_S), "NL"))
    shop.say(replace(shop.lesson(Verb.DISMISS), facts=(f"peer {ATTACKER[:-3]}8443",)))

    shop.go_on()

    again_ns = START_NS + int(AGAIN_S * 1e9)
    noted = shop.state.cases[shop.attacked].recents.items()
    assert not [key for key, recent in noted if recent.last_ns >= again_ns]


def test_a_dismissal_ends_at_its_time() -> None:
    """What comes seldom is asked about again."""
    shop = Shop()

    shop.say(shop.lesson(Verb.DISMISS, until_s=120.0))

    assert shop.go_on() is Level.COMPROMISED
    assert not shop.state.lessons.held


def test_a_dismissal_can_be_undone() -> None:
    """It was a mistake: what it taught is taken back, at a place of the log as well."""
    shop = Shop()
    lesson = shop.lesson(Verb.DISMISS)
    shop.say(lesson)
    undo = Lesson(
        "undo-1", "default", lesson.lineage, "", Teaching.UNDO, "ann", lesson.said_ns,
        undoes=lesson.uid,
    )  # fmt: skip  # one lesson

    shop.say(undo)

    assert shop.go_on() is Level.COMPROMISED


def test_a_proof_is_never_dismissed() -> None:
    """A program that is not in the image is one, whoever says that it is harmless."""
    drop = between(dropped_program(FIRST_S), FIRST_S + 60.0)
    shop = Shop(drop, dropped_program(AGAIN_S))
    lesson = shop.lesson(Verb.DISMISS)
    forced = replace(lesson, facts=("drop /tmp/.x/agent", *lesson.facts))

    assert not any(fact.startswith("drop ") for fact in lesson.facts)
    shop.say(forced)
    assert shop.go_on() is Level.COMPROMISED


def test_there_is_nothing_to_learn_from_a_proof_alone() -> None:
    """No lesson rather than an empty one."""
    shop = Shop(between(dropped_program(FIRST_S), FIRST_S + 60.0))
    word = Word("w", "default", Verb.DISMISS, "inc", "ann", START_NS)

    proof = replace(shop.incident(), facts=("drop /tmp/.x/agent",), reasons=())
    assert lesson_of(proof, word, START_NS) is None
    once = replace(word, until_ns=word.at_ns)
    assert lesson_of(shop.incident(), once, START_NS) is None


def lingering(begin_s: float) -> Story:
    """A miner that pauses, and stays in touch with its pool."""
    work = between(miner(begin_s), begin_s + 60.0)

    def change(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        work(lineage, place, row, facts)
        if place == 0 and lineage.now_s >= begin_s + 60.0:
            facts.append(connection("198.51.100.44:3333", 100, opened=0))

    return change


def test_what_was_confirmed_never_becomes_normal() -> None:
    """An intruder who is known and left alone must not talk to his host long enough to be
    normal.
    """
    peer = "peer 198.51.100.44:3333"

    def lasting(confirmed: bool) -> LineageState:
        story = lingering(FIRST_S)
        shop = Shop(story, story)
        if confirmed:
            shop.say(shop.lesson(Verb.CONFIRM))
        shop.watch.run([shop.lineage], 2_600.0, shop.story)
        return shop.state

    assert lasting(confirmed=False).facts.normal(peer)
    state = lasting(confirmed=True)
    assert not state.facts.normal(peer)
    assert state.facts.rarity(peer, "somebody else", 3) == 1.0


def test_who_was_condemned_teaches_nothing_and_what_waited_is_dropped() -> None:
    """A window that an incident lies in is never learned, nor what comes from there later."""
    shop = Shop()
    at = shop.state.members.rows[shop.attacked]
    shop.state.images[shop.lineage.image].pending = ("something",)  # type: ignore[assignment]  # any block

    shop.say(shop.lesson(Verb.CONFIRM))

    assert shop.state.images[shop.lineage.image].pending == ()
    before = shop.state.members.taught.copy()
    shop.watch.run([shop.lineage], 200.0)
    after = shop.state.members.taught
    assert after[at] == before[at]
    assert (np.delete(after, at) > np.delete(before, at)).all()


def test_what_one_who_was_condemned_alone_had_shown_is_forgotten() -> None:
    """It may have become normal before anybody knew."""
    run = Program("/usr/bin/nc", in_image=True, parent="/bin/sh")

    def extra(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
        FIRST(lineage, place, row, facts)
        if place == 0 and lineage.now_s == FIRST_S - 50.0:
            facts.append(run)

    shop = Shop(extra)
    key = "prog /usr/bin/nc < /bin/sh"
    lesson = shop.lesson(Verb.CONFIRM)
    assert key in shop.state.facts.seen

    shop.say(replace(lesson, facts=(), since_ns=START_NS + int((FIRST_S - 60.0) * 1e9)))

    assert key not in shop.state.facts.seen
    assert any(key.startswith("peer 203.0.113.20") for key in shop.state.facts.seen)


def test_of_two_words_about_one_fact_the_later_counts() -> None:
    """People change their minds, and the log tells in which order."""
    base = Lesson("a", "default", "shop/web", "", Teaching.DISMISS, "ann", START_NS,
                  facts=("exec bash",))  # fmt: skip  # one lesson
    real = replace(base, uid="b", what=Teaching.CONFIRM, subject="s")

    assert Lessons(held=(base, real)).condemned == {"exec bash"}
    assert not Lessons(held=(base, real)).dismissed
    assert Lessons(held=(real, base)).dismissed == {"exec bash"}


def test_lessons_are_bounded_and_dismissals_go_first() -> None:
    """Rows are bounded; what was real must not be talked away by many dismissals."""
    base = Lesson("real", "default", "shop/web", "", Teaching.CONFIRM, "ann", START_NS,
                  subject="s", facts=("exec nc",))  # fmt: skip  # one lesson
    lessons = Lessons().holding(base)
    for number in range(MOST + 5):
        lessons = lessons.holding(replace(base, uid=f"d{number}", what=Teaching.DISMISS))

    assert len(lessons.held) == MOST
    assert lessons.held[0].uid == "real"


def test_what_a_dismissed_feature_leads_goes_with_it_and_nothing_else() -> None:
    """Bytes come with packets; another family, or a louder feature, speaks for itself."""
    sent, packets, cpu = (
        INDEX[name]
        for name in ("network_transmit_bytes_per_s", "network_transmit_packets_per_s", "cpu_cores")
    )
    lesson = Lesson(
        "a", "default", "w", "", Teaching.DISMISS, "ann", START_NS,
        spans=(Span("network_transmit_bytes_per_s", 1e4, 1e6),),
    )  # fmt: skip  # one lesson
    evidence, last = np.zeros((2, len(INDEX))), np.zeros((2, len(INDEX)))
    evidence[:, sent], evidence[:, packets], evidence[:, cpu] = 9.0, (5.0, 11.0), 7.0
    last[:, sent] = np.arcsinh(5e5 / 2048)

    left = calmed(evidence, last, Lessons(held=(lesson,)))

    assert left[:, [sent, packets]].tolist() == [[0.0, 0.0], [9.0, 11.0]]
    assert left[:, cpu].tolist() == [7.0, 7.0]


# ---- a reviewed baseline --------------------------------------------------------------------

MEMORY = Usual("memory_working_set_bytes", "B", 4e8, 3e8, 5e8, 0.05, 80.0)


def file_of(shop: Shop, **changed: object) -> Lesson:
    lesson = Lesson(
        "base-1", "default", shop.lineage.name, "", Teaching.BASELINE, "ann",
        START_NS + int(shop.lineage.now_s * 1e9), image=shop.lineage.image, usual=(MEMORY,),
        facts=("peer 192.0.2.200:443", "drop /tmp/x"), container_blocks=300.0,
    )  # fmt: skip  # one lesson
    return replace(lesson, **changed)  # type: ignore[arg-type]  # fields by name


def usual_memory(shop: Shop) -> float:
    at = INDEX["memory_working_set_bytes"]
    return float(np.sinh(shop.state.images[shop.lineage.image].baseline.location[at]) * 4e6)


def quiet() -> Shop:
    return Shop(lambda *_: None, lambda *_: None)


def test_a_reviewed_baseline_is_taken_in_at_its_time_with_trust_anew() -> None:
    """From a stated event time, as a new version inherits: watched until it is known."""
    shop = quiet()
    begins_s = shop.lineage.now_s + 30.0
    lesson = file_of(shop, from_ns=START_NS + int(begins_s * 1e9))
    before = usual_memory(shop)

    shop.say(lesson)
    shop.watch.run([shop.lineage], 25.0)
    assert usual_memory(shop) == pytest.approx(before, rel=0.05)
    shop.watch.run([shop.lineage], 5.0)

    assert usual_memory(shop) == pytest.approx(4e8, rel=1e-6)
    baseline = shop.state.images[shop.lineage.image].baseline
    assert baseline.container_blocks == 0.0
    assert baseline.blocks.max() == 1.0
    assert shop.state.facts.normal("peer 192.0.2.200:443")
    assert not shop.state.facts.normal("drop /tmp/x")


def test_in_full_it_counts_as_if_it_had_been_learned_here() -> None:
    """For a file whose history is known to be this very image's."""
    shop = quiet()

    shop.say(file_of(shop, in_full=True))

    baseline, at = shop.state.images[shop.lineage.image].baseline, INDEX[MEMORY.feature]
    assert (baseline.blocks[at], baseline.container_blocks) == (80.0, 300.0)
    off = float(np.arcsinh(4e8 * 1.05 / 4e6) - np.arcsinh(4e8 / 4e6))
    assert baseline.scale[at] >= off * 0.99


def test_an_image_that_nobody_has_run_yet_is_known_before_its_first_container() -> None:
    """A baseline carried from staging waits for production."""
    lineage, watch = Lineage("web", 1, 5.0), Watch(Core())
    shop = quiet()
    lesson = file_of(shop, uid="base-2", in_full=True, said_ns=START_NS)
    watch.take(judge({}, [Arrival(lesson.group, lesson, START_NS)], watch.core))
    watch.run([lineage], 30.0)

    state = watch.states[lineage.group]
    assert list(state.images) == [lineage.image]
    assert state.images[lineage.image].baseline.container_blocks >= 300.0
    assert (state.scope, state.now_ns) == ("default", START_NS + 30 * 10**9)


@pytest.mark.parametrize("packed", [False, True])
def test_undone_the_baseline_is_what_it_was(packed: bool) -> None:
    """An import is a change that must be reversible, also by another worker."""
    shop = quiet()
    image = shop.state.images[shop.lineage.image]
    before, total = image.baseline, shop.state.facts.total
    shop.say(file_of(shop, in_full=True))
    if packed:
        shop.watch.states = {g: unpack(pack(s)) for g, s in shop.watch.states.items()}

    shop.say(replace(file_of(shop), uid="undo", what=Teaching.UNDO, undoes="base-1"))

    after = shop.state.images[shop.lineage.image].baseline
    np.testing.assert_array_equal(after.location, before.location)
    np.testing.assert_array_equal(after.blocks, before.blocks)
    assert shop.state.facts.total == total
    assert not shop.state.facts.normal("peer 192.0.2.200:443")


def test_however_the_log_is_cut_lessons_begin_at_the_same_sample() -> None:
    """Replay proves nothing if it depends on what happened to arrive together."""

    def run(at_once: int) -> tuple[list[bytes], dict[str, bytes]]:
        lineage, watch = Lineage("web", 1, 5.0), Watch(Core())
        log: list[Arrival] = []
        while lineage.now_s < 400.0:
            log += lineage.next()
            if lineage.now_s in (100.0, 200.0):
                said_ns = START_NS + int(lineage.now_s * 1e9)
                lesson = Lesson(
                    f"l{said_ns}", "default", lineage.name, "", Teaching.BASELINE, "ann", said_ns,
                    said_ns + 42 * 10**9, image=lineage.image, usual=(MEMORY,),
                    in_full=lineage.now_s > 150.0, container_blocks=50.0,
                )  # fmt: skip  # one lesson
                log.append(Arrival(lineage.group, lesson, said_ns))
        for start in range(0, len(log), at_once):
            watch.take(judge(watch.states, log[start : start + at_once], watch.core))
        said = sorted(map(encode, [*watch.verdicts, *watch.findings, *watch.summaries]))
        return said, pack(watch.states[lineage.group])

    assert run(1) == run(7) == run(10_000)


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"usual": (replace(MEMORY, low=9e8),)}, "usual[0].usual"),
        ({"usual": (replace(MEMORY, deviation=0.0),)}, "usual[0].deviation"),
        ({"usual": (replace(MEMORY, usual=-1.0),)}, "usual[0].usual"),
        ({"image": ""}, "image"),
        ({"facts": ("x" * 600_000,)}, "facts"),
        ({"from_ns": 5}, "from_ns"),
    ],
)
def test_a_lesson_that_cannot_be_is_refused(changed: dict[str, object], place: str) -> None:
    """A hand that signs is still a hand that slips."""
    with pytest.raises(MalformedRecord) as refused:
        file_of(quiet_of_name(), **changed)
    assert refused.value.place == place


def quiet_of_name() -> Shop:
    shop = object.__new__(Shop)
    shop.lineage = Lineage("web", 1, 5.0)
    return shop


def test_a_lesson_survives_its_bytes() -> None:
    """It is a record of the log like others."""
    lesson = file_of(quiet_of_name())

    assert decode(Lesson, encode(lesson)) == lesson
