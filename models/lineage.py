"""What is known of one group (scope, lineage, role): a value.

A call that judges works on a :meth:`~LineageState.copy`; arrays of baselines and ``seen``
facts are never written to, so copies share them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

from models.baseline import Baseline, Block
from models.budget import Lift, Tail
from models.contract import telemetry_key
from models.detectors.residual import Together
from models.facts import Facts
from models.features import SIZE, Array
from models.following import HORIZONS
from models.lessons import UNTAUGHT, Lessons
from models.members import Members
from models.records.verdict import Shadow
from models.rhythm import Rhythm
from models.spells import Spells

T = TypeVar("T")


def _twin(value: T) -> T:
    """Another of the same fields; ``dataclasses.replace`` takes five times as long."""
    kind: Any = type(value)
    twin: T = kind(*_all_of(kind)(value))
    return twin


@functools.cache
def _all_of(kind: Any) -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(kind)))


@dataclass(frozen=True, slots=True)
class Recent:
    """A rare fact that a container has shown lately. ``family``, ``grade`` and ``text`` are
    what it will say; ``sent_bytes`` went to that peer since ``first_ns``.
    """

    family: str
    grade: int
    rarity: float
    text: str
    first_ns: int
    last_ns: int
    times: int = 1
    sent_bytes: int = 0
    unanswered: int = 0


@dataclass(slots=True)
class Case:
    """What is going on with one container that is not just quiet.

    ``held_ns[r]``: when a level of rank r was last justified; ``past_ns``: since when a
    family's magnitude is past the line, leans on it (``~``), is not excused (``!``); ``said``:
    what the last verdict said, at ``said_ns``; ``silent``: that it sends no samples needs no
    saying (any more).
    """

    held_ns: list[int] = field(default_factory=lambda: [0] * 5)
    past_ns: dict[str, int] = field(default_factory=dict)
    recents: dict[str, Recent] = field(default_factory=dict)
    level: int = 0
    said_ns: int = 0
    said: str = ""
    silent: bool = False

    def copy(self) -> Case:
        case = _twin(self)
        case.held_ns, case.past_ns = self.held_ns.copy(), self.past_ns.copy()
        case.recents = self.recents.copy()
        return case


@dataclass(frozen=True, slots=True)
class Before:
    """What an image's baseline was before a person's ``lesson``, to go back to: also which
    ``facts`` became normal by it, and how many ``trials`` it counted as.
    """

    lesson: str
    baseline: Baseline
    facts: tuple[str, ...]
    trials: float


def _sums() -> Array:
    return np.zeros((2, SIZE))


def _together() -> Together:
    return Together.guess(HORIZONS, SIZE)


@dataclass(slots=True)
class Image:
    """What is known of one image. ``pending`` blocks have not taught yet. ``starts`` holds,
    for each aspect of how it starts, digests of what was seen. ``sums`` and ``counts`` add
    up the open minute, ``load`` is the nearest that a container came to the line in it.
    ``line``: the evidence from which a magnitude counts; ``lift``: what time and tickets have
    moved it; ``lasting``: the largest departure
    that lasted, in the open block.
    """

    name: str
    first_ns: int
    baseline: Baseline = field(default_factory=Baseline)
    pending: tuple[Block, ...] = ()
    tail: Tail = field(default_factory=Tail)
    starts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sums: Array = field(default_factory=_sums)
    samples: int = 0
    load: float = 0.0
    line: float = 6.0
    lift: Lift = field(default_factory=Lift)
    lasting: Array = field(default_factory=lambda: np.zeros(SIZE))
    shadow: Shadow | None = None
    """How a shadow model compares, in the open minute."""
    rhythm: Rhythm = field(default_factory=dict)
    """What it does at the same time every day; never written to, so copies share it."""
    spells: Spells = field(default_factory=dict)
    """What it does now and then, likewise."""
    together: Together = field(default_factory=_together)
    onset_tail: Tail = field(default_factory=Tail)
    onset_lift: Lift = field(default_factory=Lift)
    """What departs together in quiet times, and the line of models/onset.py."""
    taught: str = ""
    """The model whose history of this lineage onsets are held against; empty: none's."""
    before: Before | None = None

    def copy(self) -> Image:
        image = _twin(self)
        image.starts = self.starts.copy()
        return image


@dataclass(slots=True)
class LineageState:
    """Times are event times. ``due_ns``: no tick before it changes anything. ``interval_s``:
    about how often a member is sampled. ``block_ns``, ``minute_ns``, ``window_ns``: when the
    open block, minute and window of findings began; ``told`` findings in that window,
    ``suppressed`` beyond what it allows.
    """

    due_ns: int = 0
    scope: str = ""
    lineage: str = ""
    role: str = ""
    now_ns: int = 0
    block_ns: int = 0
    minute_ns: int = 0
    interval_s: float = 0.0
    window_ns: int = 0
    told: int = 0
    suppressed: int = 0
    images: dict[str, Image] = field(default_factory=dict)
    members: Members = field(default_factory=Members)
    cases: dict[str, Case] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    lessons: Lessons = field(default_factory=lambda: UNTAUGHT)

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)

    def copy(self, *, members: bool = True) -> LineageState:
        """``members``: their arrays, too; else both have the same."""
        state = _twin(self)
        state.images = {name: image.copy() for name, image in self.images.items()}
        state.members = self.members.copy(arrays=members)
        state.cases = {subject: case.copy() for subject, case in self.cases.items()}
        state.facts = self.facts.copy()
        return state
