"""Which model is used from when on, as a set of signed words says it.

The words are a set: in which order they came to a worker decides nothing. They are taken by
the event time from which they hold, then by when they were said, then by their id, so that
two activations at once, a record out of order or a worker that starts late end alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from models.records.manifest import Manifest, Stage, Staging


@dataclass(frozen=True, slots=True)
class Turn:
    """From the event time ``from_ns`` on it is this model; empty: none."""

    from_ns: int
    model: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """Turns by time; of several that begin at one instant the last one counts."""

    active: tuple[Turn, ...] = ()
    shadow: tuple[Turn, ...] = ()
    stages: dict[str, Stage] = field(default_factory=dict)
    """The stage of each model once all turns have begun."""

    def active_at(self, at_ns: int) -> str:
        return _at(self.active, at_ns)

    def shadow_at(self, at_ns: int) -> str:
        return _at(self.shadow, at_ns)

    def before(self, at_ns: int) -> str:
        """The model that was active before the one at ``at_ns``; empty when there was none."""
        now = self.active_at(at_ns)
        begun = [turn.model for turn in self.active if turn.from_ns <= at_ns]
        return next((model for model in reversed(begun) if model and model != now), "")


def schedule(stagings: Iterable[Staging], usable: Collection[str] | None = None) -> Schedule:
    """The turns that these words come to. Words about models that are not ``usable`` count
    as not said: what was active before goes on.

    >>> schedule([]).active_at(10**18)
    ''
    """
    active, shadow = [Turn(0, "")], [Turn(0, "")]
    stages: dict[str, Stage] = {}
    for word in sorted(stagings, key=lambda one: (one.from_ns, one.said_ns, one.uid)):
        if usable is not None and word.model not in usable:
            continue
        before = active[-1].model
        if word.stage is Stage.ACTIVE and before not in ("", word.model):
            stages[before] = Stage.RETIRED
        stages[word.model] = word.stage
        for turns, stage in ((active, Stage.ACTIVE), (shadow, Stage.SHADOW)):
            _take(turns, word, begins=word.stage is stage)
    return Schedule(tuple(active[1:]), tuple(shadow[1:]), stages)


def _take(turns: list[Turn], word: Staging, *, begins: bool) -> None:
    now = turns[-1].model
    after = word.model if begins else ("" if now == word.model else now)
    if after != now:
        turns.append(Turn(word.from_ns, after))


def _at(turns: tuple[Turn, ...], at_ns: int) -> str:
    return next((turn.model for turn in reversed(turns) if turn.from_ns <= at_ns), "")


def implied(manifest: Manifest) -> Staging | None:
    """The word that is in a manifest announced as active at once, as a trainer may."""
    if manifest.stage is not Stage.ACTIVE:
        return None
    said_ns = min(manifest.trained_ns, manifest.active_from_ns - 10 * 10**9)
    return Staging(
        f"announced-{manifest.uid}", manifest.scope, manifest.uid, Stage.ACTIVE,
        manifest.active_from_ns, said_ns, "trainer", "announced as active",
    )  # fmt: skip  # as the fields lie
