"""What a check is: a name, a question, and who asks it of what. One file, one line in CHECKS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.permissions import Names, Permission, permissions
from models.settings import Kafka


class State(StrEnum):
    SOUND = "sound"
    FAULT = "fault"
    UNKNOWN = "unknown"  # it could not be looked at, or told


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found wrong, or could not find out: about what, and what to do."""

    about: str
    problem: str
    todo: str
    state: State = State.FAULT


@dataclass(frozen=True, slots=True)
class Case:
    """The deployment as it is told to us, and the parts that are to run with it here."""

    settings: Any
    """All parts' settings by name (``commands.config.everything``)."""
    parts: tuple[str, ...]
    names: Names
    clock: Callable[[], int]

    @property
    def kafka(self) -> Kafka:
        kafka: Kafka = self.settings.kafka
        return kafka

    def wanted(self) -> tuple[Permission, ...]:
        """What all these parts may do, each thing once."""
        found = (one for part in self.parts for one in permissions(part, self.names))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Check:
    """``look`` yields what is wrong, and nothing where all is well. It changes nothing that
    anybody would notice. ``after`` names checks without which it can tell nothing.
    """

    name: str
    asks: str
    look: Callable[[Case], Iterable[Found]]
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line of the answer."""

    check: str
    state: State
    about: str = ""
    problem: str = ""
    todo: str = ""


def examine(case: Case, checks: Sequence[Check]) -> Iterator[Diagnosis]:
    """Every check in turn; one whose ground is not sound is left out, and says so."""
    unsound: dict[str, State] = {}
    for check in checks:
        blocked = [name for name in check.after if name in unsound]
        if blocked:
            unsound[check.name] = State.UNKNOWN
            yield Diagnosis(
                check.name, State.UNKNOWN, problem=f"not looked at: first mend {blocked[0]}"
            )
            continue
        found = list(check.look(case))
        for one in found:
            yield Diagnosis(check.name, one.state, one.about, one.problem, one.todo)
        if not found:
            yield Diagnosis(check.name, State.SOUND)
        if any(one.state is State.FAULT for one in found):
            unsound[check.name] = State.FAULT
