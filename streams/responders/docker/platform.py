"""The Docker platform: each action a deed of its own, one engine for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from models.errors import ContainerGone
from models.records.order import Action, Check
from streams.responders.base import About, Acted, Phase, Piece, State, Undone
from streams.responders.docker.deed import Deed
from streams.responders.docker.engine import Engine
from streams.responders.docker.evidence import Evidence
from streams.responders.docker.halt import Annotate, Pause, Stop
from streams.responders.docker.isolate import Isolate
from streams.responders.docker.redeploy import Redeploy

ABOUT: Final = About(
    name="docker",
    looks_with=(
        "containers/list", "containers/inspect", "containers/top", "containers/logs",
        "containers/changes", "images/inspect", "networks/inspect",
        "the host's process namespace", "CAP_SYS_ADMIN (entering a network namespace)",
    ),
    actions={
        Action.ANNOTATE: Annotate.about,
        Action.ISOLATE: Isolate.about,
        Action.PAUSE: Pause.about,
        Action.STOP: Stop.about,
        Action.REDEPLOY: Redeploy.about,
    },
)  # fmt: skip  # a list of rights in lines


class Docker:
    about = ABOUT

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._evidence = Evidence(engine)
        self._deeds: dict[Action, Deed] = {
            Action.ANNOTATE: Annotate(),
            Action.ISOLATE: Isolate(engine),
            Action.PAUSE: Pause(engine),
            Action.STOP: Stop(engine),
            Action.REDEPLOY: Redeploy(engine),
        }

    def find(self, subject: str) -> bool:
        try:
            # A name or a short id would find something too: an order names the whole id.
            return bool(self._engine.inspect(subject)["Id"] == subject)
        except ContainerGone:
            return False

    def obstacle(self, action: Action, subject: str) -> str:
        return self._deeds[action].obstacle(self._engine.inspect(subject))

    def snapshot(self, action: Action, subject: str, standing: Mapping[Action, State]) -> State:
        return self._deeds[action].snapshot(self._engine.inspect(subject), standing)

    def carry_out(self, action: Action, subject: str, order: str, before: State) -> Acted:
        return self._deeds[action].carry_out(subject, order, before)

    def verify(
        self, action: Action, subject: str, before: State, acted: Acted
    ) -> tuple[Check, ...]:
        return self._deeds[action].verify(subject, before, acted)

    def undo(self, action: Action, subject: str, order: str, before: State) -> Undone:
        return self._deeds[action].undo(subject, order, before)

    def evidence(self, subject: str, phase: Phase) -> Iterator[Piece]:
        yield from self._evidence.pieces(subject, phase)
