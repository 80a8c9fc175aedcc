"""The way of an order: every step durable, every end told, on a runtime in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    BrokerUnreachable,
    ConfigurationError,
    ContainerGone,
    RuntimeUnreachable,
    StoreFailed,
)
from models.records.codec import decode
from models.records.order import Action, Order, Status
from models.records.rejected import DeadLetter, dead_letter
from streams.responders.base import Phase, Piece
from streams.responders.simulated import Simulated
from streams.responders.store import MOST_LETTERS, Case, ResponderStore, Step
from streams.responders.witness import Witness
from tests.responding import NOW_NS, SUBJECT, Desk, S, order, releasing

Opened = Callable[..., Desk]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Desks over this test's directory, closed at its end."""
    made: list[Desk] = []

    def make(**options: Any) -> Desk:
        made.append(Desk(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.fixture
def desk(opened: Opened) -> Desk:
    return opened()


def statuses(desk: Desk) -> list[tuple[Status, str]]:
    return [(one.status, one.uid.rsplit("/", 1)[1]) for one in desk.told()]


def test_an_isolation_is_verified_told_and_held(desk: Desk) -> None:
    """The plain case, from end to end."""
    one = order()
    case = desk.take(one)

    assert case.step is Step.HELD
    assert desk.memory.containers[SUBJECT]["networks"] == {}
    acted, later = desk.told()
    assert (acted.status, acted.verified, acted.order) == (Status.DONE, True, one.uid)
    assert {"flows", "processes", "inspect", "counters"} <= {s.kind for s in acted.submissions}
    assert [s.kind for s in later.submissions] == ["files"]


def test_volatile_evidence_is_taken_before_anything_is_touched(desk: Desk) -> None:
    """The connections of an attacker are gone a moment later."""
    desk.take(order())
    flows = next(s for s in desk.told()[0].submissions if s.kind == "flows")
    assert b"198.51.100.9" in (flows.content or b"")
    assert desk.evidence.read(flows.location) == flows.content


def test_it_ends_by_itself_when_its_time_is_up(desk: Desk) -> None:
    """With Kafka and governor gone, nobody else would let go of it."""
    one = order(until_ns=NOW_NS + 60 * S)
    desk.take(one)
    assert desk.store.due(NOW_NS + 59 * S) == []

    desk.clock.pass_s(60)
    assert [case.uid for case in desk.store.due(desk.clock())] == [one.uid]
    desk.course.end(one.uid)

    assert desk.memory.probe(SUBJECT)
    assert desk.case(one).step is Step.ENDED
    assert desk.told()[-1].status is Status.RELEASED


@pytest.mark.parametrize("asked_ns", [0, NOW_NS + 10**6 * S])
def test_nothing_lasts_longer_than_the_responder_allows(desk: Desk, asked_ns: int) -> None:
    """A governor gone wrong must not hold a container for ever."""
    one = order(until_ns=asked_ns)
    desk.take(one)
    assert desk.case(one).until_ns == NOW_NS + int(desk.ttl_s * S)


def test_a_release_puts_back_and_answers_for_both_orders(desk: Desk) -> None:
    """The governor waits for the release; the incident for the isolation's end."""
    one = order()
    desk.take(one)
    word = releasing(one)
    desk.take(word)

    assert desk.memory.probe(SUBJECT)
    ended = {out.order: out.status for out in desk.told() if out.status is Status.RELEASED}
    assert set(ended) == {one.uid, word.uid}


def test_a_release_of_nothing_known_is_refused(desk: Desk) -> None:
    desk.take(releasing(order()))
    (told,) = desk.told()
    assert told.status is Status.REFUSED
    assert "is known here" in told.detail


def test_a_release_of_another_subject_is_refused(desk: Desk) -> None:
    """An order about one container must not open another."""
    one = order()
    desk.take(one)
    desk.take(order(Action.RELEASE, undoes=one.uid, subject="b" * 64))
    assert desk.told()[-1].status is Status.REFUSED
    assert not desk.memory.probe(SUBJECT)


def test_only_a_word_extends_it(desk: Desk) -> None:
    one = order(until_ns=NOW_NS + 60 * S)
    desk.take(one)
    desk.take(order(Action.EXTEND, undoes=one.uid, until_ns=NOW_NS + 120 * S))
    desk.clock.pass_s(61)
    assert desk.store.due(desk.clock()) == []
    desk.clock.pass_s(60)
    assert [case.uid for case in desk.store.due(desk.clock())] == [one.uid]


def test_two_orders_hold_one_container_until_both_have_ended(desk: Desk) -> None:
    """The end of the first must not open what the second still holds, nor may the second
    take the first one's work for the state to put back.
    """
    first, second = order(), order()
    desk.take(first)
    desk.take(second)

    desk.take(releasing(first))
    assert not desk.memory.probe(SUBJECT)
    desk.take(releasing(second))
    assert desk.memory.probe(SUBJECT)


def test_what_cannot_be_verified_escalates_and_says_so(desk: Desk) -> None:
    """A runtime that only says it obeyed must not count as an isolation."""
    desk.memory.deaf = {"disconnect"}
    case = desk.take(order(ladder=(Action.ISOLATE, Action.PAUSE, Action.STOP)))

    acted = desk.told()[0]
    assert (acted.action, acted.verified) == (Action.PAUSE, True)
    assert "isolate" in acted.detail
    assert "not verified" in acted.detail
    assert [rung.action for rung in case.rungs] == [Action.ISOLATE, Action.PAUSE]


def test_an_exhausted_ladder_is_told_as_unverified(desk: Desk) -> None:
    """Silence would be read as success."""
    desk.memory.deaf = {"disconnect", "pause"}
    desk.take(order(ladder=(Action.PAUSE,)))
    assert (desk.told()[0].status, desk.told()[0].verified) == (Status.DONE, False)


def test_all_rungs_are_undone_the_last_one_first(desk: Desk) -> None:
    desk.memory.deaf = {"disconnect"}
    one = order(ladder=(Action.STOP,))
    desk.take(one)
    desk.memory.calls.clear()
    desk.take(releasing(one))
    assert desk.memory.calls == ["start", "reconnect"]


def test_a_container_that_is_not_there_is_a_failure_with_its_reason(desk: Desk) -> None:
    desk.memory.containers.clear()
    desk.take(order())
    (told,) = desk.told()
    assert told.status is Status.FAILED
    assert "vanished" in told.detail


def test_a_container_that_vanishes_on_the_way_leaves_its_evidence(desk: Desk) -> None:
    """What was seen before it went is all that the incident will ever have."""

    class Vanishing(Simulated):
        def carry_out(self, *given: Any) -> Any:
            raise ContainerGone("container aaaaaaaaaaaa was removed")

    desk.platform = Vanishing(desk.memory)
    desk.reopen()
    case = desk.take(order())
    (told,) = desk.told()
    assert (told.status, case.step) == (Status.FAILED, Step.ENDED)
    assert {"flows", "processes"} <= {s.kind for s in told.submissions}


class Away(Simulated):
    """A platform that is silent for some calls."""

    silent = 3

    def find(self, subject: str) -> bool:
        if self.silent:
            self.silent -= 1
            raise RuntimeUnreachable("the engine did not answer")
        return super().find(subject)


@pytest.fixture
def away(desk: Desk) -> Away:
    """On a desk where time passes in pauses only: no machine is too slow for it."""
    found = Away(desk.memory)
    desk.platform = found
    desk.reopen()

    def wait(timeout: float | None = None) -> bool:
        desk.clock.pass_s(timeout or 0.0)
        return False

    desk.stopping.wait = wait  # type: ignore[method-assign]  # as said
    return found


def test_a_silent_engine_is_asked_until_it_answers(desk: Desk, away: Away) -> None:
    """An engine that restarts comes back within seconds."""
    away.silent = 3
    desk.take(order())
    assert (desk.told()[0].status, away.silent) == (Status.DONE, 0)


def test_an_order_that_silence_used_up_names_the_silent_engine(desk: Desk, away: Away) -> None:
    """Told that it was late, the person on call would look at clocks and at Kafka.

    The deadline passes in the pause between two questions, as it nearly always does.
    """
    away.silent = 10**6
    desk.take(order())
    (told,) = desk.told()
    assert told.status is Status.FAILED
    assert "the engine did not answer" in told.detail
    assert NOW_NS + 30 * S < desk.clock() < NOW_NS + 33 * S


def test_an_order_that_waited_behind_silent_ones_names_the_engine_too(
    desk: Desk, away: Away
) -> None:
    """All hands waited for the engine: this one was never even asked about."""
    away.silent = 10**6
    desk.take(order())
    desk.take(order(subject="b" * 64))
    waited = desk.told()[-1]
    assert waited.status is Status.FAILED
    assert "deadline passed" in waited.detail
    assert "the engine did not answer" in waited.detail


def test_silence_is_named_though_it_ended_too_late(desk: Desk, away: Away) -> None:
    """The engine answered at last, and taking evidence used up what was left."""
    away.silent = 3
    looked = away.evidence

    def slowly(subject: str, phase: Phase) -> Iterator[Piece]:
        desk.clock.pass_s(31)
        return looked(subject, phase)

    away.evidence = slowly  # type: ignore[method-assign]  # one that takes its time
    desk.take(order())
    (told,) = desk.told()
    assert "deadline passed" in told.detail
    assert "the engine did not answer" in told.detail
    assert desk.memory.probe(SUBJECT)


def test_a_plainly_late_order_blames_nobody(desk: Desk, away: Away) -> None:
    """What was once silent and answers again is not to blame for what comes later."""
    desk.take(order())
    desk.clock.pass_s(31)
    desk.take(order(subject="b" * 64))
    assert desk.told()[-1].detail == "its deadline passed before it could be begun"


def test_evidence_that_cannot_be_kept_is_said_and_holds_nothing_up(
    tmp_path: Path, opened: Opened
) -> None:
    """A full disk must not save an attacker from isolation."""
    (tmp_path / "evidence").write_text("in the way of the directory")
    desk = opened()
    desk.take(order())
    acted = desk.told()[0]
    assert acted.verified
    assert all("not in the evidence store" in s.detail for s in acted.submissions)


def test_evidence_that_is_slow_to_come_does_not_hold_up_the_act(desk: Desk) -> None:
    """A second is what an attacker gets for it, not a minute."""
    released = threading.Event()

    class Slow(Simulated):
        def evidence(self, subject: str, phase: Phase) -> Iterator[Piece]:
            yield Piece("flows", b"[]")
            released.wait(60)
            yield Piece("processes", b"[]")

    witness = Witness(Slow(desk.memory), desk.evidence, desk.clock, volatile_s=0.2)
    found = {one.kind: one.detail for one in witness.look(order(), Phase.VOLATILE)}
    released.set()
    assert found.keys() == {"flows", "missing"}
    assert "not there within 0.2 s" in found["missing"]


def test_a_recorder_without_kafka_costs_only_its_own_piece(desk: Desk) -> None:
    """The files are on this disk, whoever else is away."""

    def away(_: Order) -> Iterator[Piece]:
        raise BrokerUnreachable("Kafka at nowhere:9092: it is silent")

    witness = Witness(Simulated(desk.memory), desk.evidence, desk.clock, away)
    found = {one.kind: one.detail for one in witness.look(order(), Phase.SLOW)}
    assert found.keys() == {"files", "missing"}
    assert "it is silent" in found["missing"]


# ---- crashes ------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone: nobody catches this."""


class Dying(ResponderStore):
    """Ends the process before or after the n-th time that a step is written."""

    left = 10**6
    after = False

    def keep(self, *cases: Case, tell: Any = ()) -> None:
        Dying.left -= 1
        if Dying.left == 0 and not Dying.after:
            raise Killed
        super().keep(*cases, tell=tell)
        if Dying.left == 0:
            raise Killed


@pytest.fixture(params=[False, True], ids=["before", "after"])
def dying(request: pytest.FixtureRequest) -> Any:
    Dying.after = request.param
    yield Dying
    Dying.left = 10**6


@pytest.mark.parametrize("at", range(1, 6))
def test_a_crash_anywhere_is_finished_after_the_restart(
    opened: Opened, dying: Any, at: int
) -> None:
    """Half an isolation that nobody remembers is the worst of all outcomes."""
    desk, one = opened(store_class=dying), order()
    Dying.left = at
    with pytest.raises(Killed):
        desk.take(one)

    desk.reopen()
    for case in desk.store.unfinished():
        assert case.uid == one.uid
        desk.go_on(one)
    assert desk.case(one).step is Step.HELD
    assert statuses_once(desk) == [(Status.DONE, "acted"), (Status.DONE, "evidence")]

    desk.take(releasing(one))
    assert desk.memory.containers[SUBJECT]["networks"] == {"shop": {"address": "172.18.0.2"}}


def statuses_once(desk: Desk) -> list[tuple[Status, str]]:
    """What was told, a repeated outcome counted once: consumers know it by its uid."""
    return list(dict.fromkeys(statuses(desk)))


@pytest.mark.parametrize("at", range(1, 4))
def test_a_crash_with_its_time_up_is_undone_after_the_restart(
    opened: Opened, dying: Any, at: int
) -> None:
    """A host that was down for longer than the order lasts comes back without it."""
    desk, one = opened(store_class=dying), order()
    Dying.left = at + 1
    with pytest.raises(Killed):
        desk.take(one)

    desk.clock.pass_s(7200)
    desk.reopen()
    desk.course.run(one.uid)
    for case in desk.store.due(desk.clock()):
        desk.course.end(case.uid)
    assert desk.memory.probe(SUBJECT)
    assert desk.case(one).step is Step.ENDED
    assert desk.told()[-1].status is Status.RELEASED


@pytest.mark.parametrize("at", range(1, 4))
def test_a_crash_in_a_release_is_finished_after_the_restart(
    opened: Opened, dying: Any, at: int
) -> None:
    desk, one = opened(store_class=dying), order()
    desk.take(one)
    word = releasing(one)
    Dying.left = at
    with pytest.raises(Killed):
        desk.take(word)

    desk.reopen()
    for case in desk.store.unfinished():
        desk.course.run(case.uid)
    assert desk.memory.probe(SUBJECT)
    assert desk.case(one).step is Step.ENDED
    assert desk.case(word).step is Step.ENDED


def test_a_store_serves_one_process(tmp_path: Path) -> None:
    """Two responders on one store would both act."""
    store = ResponderStore(tmp_path / "responder.db")
    with pytest.raises(ConfigurationError, match="another responder uses it"):
        ResponderStore(tmp_path / "responder.db")
    store.close()


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"no database at all, but longer than a header" * 9, ConfigurationError, "move it away"),
        (None, StoreFailed, "goes on where it was"),
    ],
)
def test_a_store_is_moved_away_only_when_it_is_none(
    tmp_path: Path, content: bytes | None, error: type[Exception], said: str
) -> None:
    """Told so of a full or missing disk, somebody would throw away what is in force."""
    path = tmp_path / "responder.db"
    if content is None:
        path.mkdir()  # what cannot be opened, even by root
    else:
        path.write_bytes(content)
    with pytest.raises(error, match=said):
        ResponderStore(path)


def test_the_offset_moves_with_the_order_it_read(desk: Desk) -> None:
    """An offset without its order is an order lost."""
    one = order()
    desk.store.receive(("orders", 3, 18), Case(one, "0" * 64, NOW_NS))
    desk.reopen()
    assert desk.store.offsets("orders") == {3: 18}
    assert desk.store.digest_of(one.uid) == "0" * 64


def test_dead_letters_wait_with_the_offset_and_take_no_more_than_their_room(desk: Desk) -> None:
    """Whoever floods the topic with forged orders must not fill the disk of what is isolated."""
    for at in range(MOST_LETTERS + 3):
        why = {"fault": "untrusted", "reason": "forged", "place": "", "rejected_by": "respond"}
        letter = dead_letter("orders", 0, at, b"h", b"x", at_ns=NOW_NS, **why)
        desk.store.receive(("orders", 0, at + 1), letter=letter)
    desk.reopen()

    kept = desk.store.letters(most=10 * MOST_LETTERS)
    offsets = [decode(DeadLetter, body).offset for _, body in kept]
    assert offsets == list(range(3, MOST_LETTERS + 3))
    assert desk.store.offsets("orders") == {0: MOST_LETTERS + 3}
    desk.store.posted(kept[0][0])
    assert desk.store.letters(most=1) == kept[1:2]


def test_the_file_is_for_its_owner_alone(desk: Desk, tmp_path: Path) -> None:
    """What is recorded before a redeployment holds environment values."""
    assert (tmp_path / "responder.db").stat().st_mode & 0o077 == 0


def test_what_has_ended_forgets_what_was_there_before(desk: Desk) -> None:
    one = order()
    desk.take(one)
    desk.take(releasing(one))
    assert [rung.before for rung in desk.case(one).rungs] == [b"{}"]
