"""One suite that every responder platform passes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from models.errors import ContainerGone
from models.records.order import Action
from streams.responders import names
from streams.responders.base import Acted, Phase, Responder
from streams.responders.docker import Docker
from streams.responders.docker.engine import Engine
from streams.responders.simulated import Simulated
from tests.fixtures_docker import TestEngine
from tests.responding import SUBJECT, Memory

REVERSIBLE = (Action.ISOLATE, Action.PAUSE, Action.STOP)
ORDER = f"order-{uuid.uuid4().hex}"


@dataclass
class Stand:
    """A platform with one running container on it."""

    platform: Responder
    subject: str
    adopt: Any = field(default=lambda _: None)


@pytest.fixture(scope="module")
def engine_platform() -> Iterator[Docker]:
    engine = Engine("unix:///var/run/docker.sock", 30.0)
    yield Docker(engine)
    engine.close()


def simulated(_: pytest.FixtureRequest) -> Stand:
    return Stand(Simulated(Memory()), SUBJECT)


def docker(request: pytest.FixtureRequest) -> Stand:
    made: TestEngine = request.getfixturevalue("docker_engine")
    image = made.image("contract")
    network = request.getfixturevalue("contract_network")
    container = made.run(image, network=network, stop_signal="SIGKILL")
    assert container.id is not None
    return Stand(request.getfixturevalue("engine_platform"), container.id, made.adopt)


STANDS = {"simulated": simulated, "docker": docker}


@pytest.fixture(params=STANDS)
def stand(request: pytest.FixtureRequest) -> Stand:
    return STANDS[request.param](request)


def test_every_platform_that_can_be_had_is_held_to_this() -> None:
    """A new line in pyproject.toml without a stand here would ship untested."""
    assert set(names()) == STANDS.keys() - {"simulated"}


@pytest.fixture(scope="module")
def contract_network(docker_engine: TestEngine) -> str:
    return str(docker_engine.network("contract", "10.97.1.0/24").name)


def done(stand: Stand, action: Action) -> tuple[dict[str, Any], Acted]:
    before = stand.platform.snapshot(action, stand.subject, {})
    return before, stand.platform.carry_out(action, stand.subject, ORDER, before)


def shown(stand: Stand, action: Action) -> dict[str, Any]:
    """How the subject is now, but for whether its addresses came by request or by chance."""
    state = stand.platform.snapshot(action, stand.subject, {})
    ends = state.get("networks", {})
    return {**state, "networks": {name: {**end, "asked": {}} for name, end in ends.items()}}


def verified(stand: Stand, action: Action, before: dict[str, Any], acted: Acted) -> list[str]:
    """The names of the checks that did not pass."""
    checks = stand.platform.verify(action, stand.subject, before, acted)
    assert checks, "an action with an effect has something to look at"
    return [f"{check.name}: {check.detail}" for check in checks if not check.passed]


def test_it_keeps_the_protocol_and_says_what_each_action_does(stand: Stand) -> None:
    """Operators read effect, undoing and rights before they let it act."""
    assert isinstance(stand.platform, Responder)
    assert stand.platform.about.name
    for about in stand.platform.about.actions.values():
        assert about.effect
        assert about.undone_by


def test_it_finds_its_own_and_no_other(stand: Stand) -> None:
    """An order for a container that is elsewhere must not hit one that is here."""
    assert stand.platform.find(stand.subject)
    assert not stand.platform.find("f" * 64)


@pytest.mark.parametrize("action", REVERSIBLE)
def test_what_is_done_is_seen_and_what_is_undone_is_seen_too(stand: Stand, action: Action) -> None:
    """A verification that always passes, or a release that leaves something, proves nothing."""
    untouched = shown(stand, action)
    assert verified(stand, action, untouched, Acted("")), "nothing was done yet"

    before, acted = done(stand, action)
    assert verified(stand, action, before, acted) == []

    undone = stand.platform.undo(action, stand.subject, ORDER, before)
    assert undone.missing == ()
    assert verified(stand, action, before, acted), "still in effect after its undoing"
    assert shown(stand, action) == untouched


@pytest.mark.parametrize("action", REVERSIBLE)
def test_twice_is_the_same_as_once(stand: Stand, action: Action) -> None:
    """After a crash nobody knows whether the call went through: it is made again."""
    untouched = shown(stand, action)
    before, _ = done(stand, action)
    acted = stand.platform.carry_out(action, stand.subject, ORDER, before)
    assert verified(stand, action, before, acted) == []

    stand.platform.undo(action, stand.subject, ORDER, before)
    stand.platform.undo(action, stand.subject, ORDER, before)
    assert shown(stand, action) == untouched


@pytest.mark.parametrize("action", REVERSIBLE)
def test_our_own_doing_is_never_taken_for_the_state_before(stand: Stand, action: Action) -> None:
    """A second order on a held container must know what to put back."""
    before, _ = done(stand, action)
    assert stand.platform.snapshot(action, stand.subject, {action: before}) == before
    stand.platform.undo(action, stand.subject, ORDER, before)


def test_a_redeployment_keeps_the_old_one_and_happens_once(stand: Stand) -> None:
    """The old container is evidence; two replacements would be one service too many."""
    before, acted = done(stand, Action.REDEPLOY)
    again = stand.platform.carry_out(Action.REDEPLOY, stand.subject, ORDER, before)
    stand.adopt(acted.replacement)

    assert again.replacement == acted.replacement != stand.subject
    assert verified(stand, Action.REDEPLOY, before, acted) == []
    stand.platform.undo(Action.REDEPLOY, stand.subject, ORDER, before)
    assert stand.platform.find(stand.subject)


def test_annotating_changes_nothing(stand: Stand) -> None:
    """The mildest answer must be free of side effects."""
    before = stand.platform.snapshot(Action.ISOLATE, stand.subject, {})
    _, acted = done(stand, Action.ANNOTATE)
    assert stand.platform.verify(Action.ANNOTATE, stand.subject, {}, acted) == ()
    assert stand.platform.snapshot(Action.ISOLATE, stand.subject, {}) == before


@pytest.mark.parametrize("phase", list(Phase))
def test_evidence_comes_in_named_pieces(stand: Stand, phase: Phase) -> None:
    """Each piece becomes an exhibit: it needs a kind and content."""
    pieces = list(stand.platform.evidence(stand.subject, phase))
    assert pieces
    assert all(piece.kind and piece.content is not None for piece in pieces)
    assert "missing" not in {piece.kind for piece in pieces}


def test_a_container_that_is_gone_is_said_to_be_gone(stand: Stand) -> None:
    """Gone is final; silent is worth asking again. The runner tells them apart by this."""
    with pytest.raises(ContainerGone):
        stand.platform.snapshot(Action.ISOLATE, "f" * 64, {})
