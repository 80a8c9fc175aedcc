"""Lessons: what people teach the judge of one image in one role, as a record of its log.

A lesson lies among the telemetry of its group, signed; so it takes effect at one place of one
order, live as in replay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from models.contract import telemetry_key
from models.errors import MalformedRecord
from models.records import checks

MOST_FACTS: Final = 2_048
MOST_FACT_BYTES: Final = 512 * 1024
"""Of all facts together: a lesson is a row of the judge's table until it begins."""
MOST_FEATURES: Final = 256
MOST_VALUE: Final = 1e18
MOST_BLOCKS: Final = 1e6
MOST_DEVIATION: Final = 100.0
"""One deviation, as a share of the usual value: beyond, nothing could ever be odd."""


class Teaching(StrEnum):
    BASELINE = "baseline"  # a reviewed file says what is usual
    DISMISS = "dismiss"  # it was a false alarm: what led to it is normal, up to what was seen
    CONFIRM = "confirm"  # it was real: nothing of it is ever learned
    UNDO = "undo"  # another lesson counts no more


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual of one feature, in its unit. ``blocks``: how many stretches of about ten
    samples a container spoke of it; ``deviation``: one, as a share of the usual value.
    """

    feature: str
    unit: str
    usual: float
    low: float
    high: float
    deviation: float
    blocks: float

    def faults(self) -> list[tuple[str, str]]:
        """Each field that can't be, and what was expected; none when all can."""
        found = [
            (name, f"a number from 0 to {most:g}")
            for name, most in (
                ("usual", MOST_VALUE), ("low", MOST_VALUE), ("high", MOST_VALUE),
                ("deviation", MOST_DEVIATION), ("blocks", MOST_BLOCKS),
            )
            if not 0.0 <= getattr(self, name) <= most
        ]  # fmt: skip  # one condition
        if not found and not self.low <= self.usual <= self.high:
            found.append(("usual", f"low ({self.low:g}) up to high ({self.high:g})"))
        if not found and not self.deviation > 0.0:
            found.append(("deviation", "more than 0"))
        return found


@dataclass(frozen=True, slots=True)
class Span:
    """Values of a feature, in its unit."""

    feature: str
    low: float
    high: float

    def __post_init__(self) -> None:
        checks.between(self.high, 0.0, MOST_VALUE, "high")
        checks.between(self.low, 0.0, self.high, "low")


@dataclass(frozen=True, slots=True)
class Lesson:
    """``by`` is the person; it holds from the event time ``from_ns`` (0: from where it lies in
    the log) until ``until_ns`` (0: without end).

    ``usual`` and ``facts`` of a baseline become what is known of ``image``; ``in_full`` as if
    they had been learned here, else as a new version inherits them. A dismissal names ``facts``
    and ``spans``, a confirmation ``facts`` and who showed them since ``since_ns``. An undoing
    names the lesson ``undoes``.
    """

    uid: str
    scope: str
    lineage: str
    role: str
    what: Teaching
    by: str
    said_ns: int
    from_ns: int = 0
    until_ns: int = 0
    because: str = ""
    image: str = ""
    subject: str = ""
    since_ns: int = 0
    facts: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    usual: tuple[Usual, ...] = ()
    container_blocks: float = 0.0
    in_full: bool = False
    undoes: str = ""

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        for place in ("uid", "lineage", "by"):
            checks.name(getattr(self, place), place)
        for place in ("role", "image", "subject", "undoes"):
            checks.optional_name(getattr(self, place), place)
        checks.optional_name(self.because, "because", 2_000)
        checks.time(self.said_ns, "said_ns")
        for place in ("from_ns", "until_ns", "since_ns"):
            if getattr(self, place):
                checks.time(getattr(self, place), place)
        self._check_content()

    def _check_content(self) -> None:
        if len(self.facts) > MOST_FACTS or len(self.usual) + len(self.spans) > MOST_FEATURES:
            problem = f"more than {MOST_FACTS} facts or {MOST_FEATURES} features"
            raise MalformedRecord("oversized", problem)
        if sum(len(fact.encode()) for fact in self.facts) > MOST_FACT_BYTES:
            raise MalformedRecord("oversized", f"more than {MOST_FACT_BYTES} bytes", "facts")
        checks.between(self.container_blocks, 0.0, math.inf, "container_blocks")
        for at, one in enumerate(self.usual):
            for field, expected in one.faults():
                problem = f"{getattr(one, field)}: expected {expected}"
                raise MalformedRecord("out-of-range", problem, f"usual[{at}].{field}")
        needed = {Teaching.BASELINE: "image", Teaching.UNDO: "undoes", Teaching.CONFIRM: "subject"}
        place = needed.get(self.what)
        if place is not None and not getattr(self, place):
            raise MalformedRecord("missing", f"a lesson to {self.what} names one", place)

    @property
    def group(self) -> str:
        return telemetry_key(self.scope, self.lineage, self.role)

    @property
    def at_ns(self) -> int:
        """When it was said: like other records, not after it came."""
        return self.said_ns


LESSON: Final = "lesson"
"""Its kind in the header ``plimsoll-kind``; the value is a signed envelope."""
