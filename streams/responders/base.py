"""What a responder platform is: one file (or package) and one line in pyproject.toml.

A platform knows how to look at, cut off and put back one container of its kind. It keeps
nothing and decides nothing: the runner owns time, order and memory, and hands back what
the platform itself recorded. Every call may be repeated after a crash, so each one brings
about a state instead of taking a step: twice is the same as once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from models.records.order import Action, Check

State = dict[str, Any]
"""How a subject was before an action, as JSON can hold it. Only its platform reads it."""


@dataclass(frozen=True, slots=True)
class ActionAbout:
    """What one action does to a subject, what undoing does, and the rights both need."""

    effect: str
    undone_by: str
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """A platform, as documentation and operators see it."""

    name: str
    looks_with: tuple[str, ...]
    """The rights that evidence and verification need."""
    actions: Mapping[Action, ActionAbout]


class Phase(StrEnum):
    VOLATILE = "volatile"  # gone once we act: taken first, within a second
    SLOW = "slow"  # stays where it is: taken once the subject is held


@dataclass(frozen=True, slots=True)
class Piece:
    """Evidence as it was found. ``private`` may hold secrets that cannot be masked (logs,
    files): it goes to the evidence store and never onto a topic.
    """

    kind: str
    content: bytes
    detail: str = ""
    private: bool = False


@dataclass(frozen=True, slots=True)
class Acted:
    """What was done, in words; ``replacement`` is the id of what runs in its place."""

    detail: str
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class Undone:
    """What was put back, in words, and what could not be."""

    detail: str
    missing: tuple[str, ...] = ()


@runtime_checkable
class Responder(Protocol):
    """What the runner asks of a platform.

    Every method raises ContainerGone when the subject no longer exists, RuntimeUnreachable
    when the platform did not answer (asking again may help), and ContainerRuntimeError
    when it answered and did not do it.
    """

    @property
    def about(self) -> About: ...

    def find(self, subject: str) -> bool:
        """Whether this platform has the subject."""

    def obstacle(self, action: Action, subject: str) -> str:
        """Why the action would miss the subject or hit others; empty when nothing is in
        the way. A reason here makes the runner take the next rung of the order's ladder.
        """

    def snapshot(self, action: Action, subject: str, standing: Mapping[Action, State]) -> State:
        """How the subject is, as far as the action will change it.

        ``standing`` holds what was recorded before other actions that are in force on
        this subject, so that what we changed ourselves is not taken for its own state.
        """

    def carry_out(self, action: Action, subject: str, order: str, before: State) -> Acted:
        """Bring the action's effect about; ``order`` is the order's uid."""

    def verify(
        self, action: Action, subject: str, before: State, acted: Acted
    ) -> tuple[Check, ...]:
        """Look whether the effect is there; changes nothing."""

    def undo(self, action: Action, subject: str, order: str, before: State) -> Undone:
        """Put back exactly what ``before`` recorded, and nothing else."""

    def evidence(self, subject: str, phase: Phase) -> Iterator[Piece]:
        """Piece by piece, the most fleeting first; the runner stops asking when time is up.

        A piece that cannot be had is left out with a Piece of kind ``missing`` that says so.
        """
