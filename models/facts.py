"""What a lineage has shown: facts by name, and how often it still shows new ones.

A fact is a short key, its kind first (``peer 198.51.100.9:443``). One *trial* is a container
in a block; a fact that one trial showed is a single. By Good and Turing, the share of what
comes next that was never seen is about singles over trials: near 1 for a crawler, near 0 for
a database, and the rarity of something new is what is left of 1.

Source: I. J. Good, "The population frequencies of species and the estimation of population
parameters", Biometrika 40, 1953.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

MOST_NAMED: Final = 4
"""Containers that are remembered by name with a fact: enough to know that it is shared."""
MOST_FRESH: Final = 4_096
BLOCKS_ALONE: Final = 24
FLOWING: Final = frozenset({"peer", "mate", "port", "country", "network", "in", "from"})
"""Kinds that are told anew in every interval. The others are told once (a program runs, a
port is open): having been told once while learning does not make them rare.
"""
PROVING: Final = frozenset({"drop"})
"""Kinds that siblings never make dull, nor normal: who gets into one gets into all of them."""
HABIT_DAYS: Final = 2
"""What is shown on so many separate days is a habit: a backup at night, a weekly report."""
APART_NS: Final = 12 * 3_600 * 10**9
_MOST_TRIALS: Final = 4_096.0


@dataclass(frozen=True, slots=True)
class Seen:
    """``blocks`` that showed it, ``trials`` (container and block pairs) that did, on so many
    separate ``days``; ``normal`` once it surprises nobody any more.
    """

    first_ns: int
    last_ns: int
    blocks: int
    trials: int
    by: tuple[str, ...]
    normal: bool
    days: int = 1


@dataclass(slots=True)
class Facts:
    """``seen`` changes only when a block closes, then as a whole; ``fresh`` is what the open
    block has shown, and who showed it. ``total`` counts trials, ``trials`` those of a kind
    (more where a container shows several), ``singles`` the facts that one trial showed,
    ``lost`` those that had to be forgotten, ``learned_ns`` when learning ended. ``dismissed``
    surprises nobody while people say so, ``condemned`` is never normal (models/lessons.py).
    """

    seen: Mapping[str, Seen] = field(default_factory=dict)
    fresh: dict[str, tuple[str, ...]] = field(default_factory=dict)
    trials: dict[str, float] = field(default_factory=dict)
    singles: dict[str, float] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    learned_ns: int = 0
    dismissed: frozenset[str] = frozenset()
    condemned: frozenset[str] = frozenset()

    def copy(self) -> Facts:
        return replace(self, fresh=self.fresh.copy())

    def sight(self, key: str, subject: str) -> None:
        """Somebody shows a fact, in the open block."""
        by = self.fresh.get(key, ())
        if subject not in by and len(by) < MOST_NAMED and (by or len(self.fresh) < MOST_FRESH):
            self.fresh[key] = (*by, subject)

    def normal(self, key: str) -> bool:
        seen = self.seen.get(key)
        return (seen is not None and seen.normal) or key in self.dismissed

    def any_normal(self, kind: str) -> bool:
        """Whether facts of this kind are part of this lineage's life at all."""
        return any(seen.normal and _kind(key) == kind for key, seen in self.seen.items())

    def unseen_mass(self, kind: str) -> float:
        """The share of what this kind shows next that will be new, 0 to 1 (Good-Turing,
        half a single added: a short history proves little).
        """
        singles = self.singles.get(kind, 0.0) + self.lost.get(kind, 0.0) + 0.5
        return min(1.0, singles / (max(self.trials.get(kind, 0.0), self.total) + 1.0))

    def rarity(self, key: str, subject: str, siblings: int) -> float:
        """How rare it is that this container shows this, 0 (dull) to 1 (never).

        What two siblings show as well (or the only other one does) is dull, but for what is
        :data:`PROVING`.
        """
        if self.normal(key):
            return 0.0
        if key in self.condemned:
            return 1.0
        shared = siblings and self.others(key, subject) >= min(2, siblings)
        if shared and _kind(key) not in PROVING:
            return 0.0
        return 1.0 - self.unseen_mass(_kind(key))

    def others(self, key: str, subject: str) -> int:
        """How many others are known by name to have shown it."""
        seen = self.seen.get(key)
        return len({*(seen.by if seen else ()), *self.fresh.get(key, ())} - {subject})

    def earlier_ns(self, key: str, at_ns: int) -> int:
        """How long ago it was first shown, where that was on another day; else 0."""
        seen = self.seen.get(key)
        passed_ns = at_ns - seen.first_ns if seen else 0
        return passed_ns if passed_ns >= APART_NS else 0

    def learned(self, trials: int) -> float:
        """How much is known, 0 to 1: the trials that are asked for, less what is unseen."""
        worst = max(map(self.unseen_mass, self.trials), default=0.0)
        return min(1.0, self.total / trials) * (1.0 - worst)

    def close(
        self, at_ns: int, members: int, *, learning: bool, alone_ns: int, most: int,
        vetoed: Iterable[str] = (), doubted: Iterable[str] = (),
    ) -> None:  # fmt: skip  # two lines
        """A block ends: what it showed is remembered, what siblings share becomes normal.

        While ``learning`` everything does; later a fact of one container alone waits for
        ``alone_ns`` and :data:`BLOCKS_ALONE` blocks, or for another day. Keys in ``vetoed``, and
        condemned ones, teach nothing, and what they began to teach is forgotten; of those
        ``doubted`` no more than the day is remembered.
        """
        seen, refused, doubted = dict(self.seen), self.condemned.union(vetoed), {*doubted}
        for key in refused & seen.keys():
            if not seen[key].normal:
                del seen[key]
        if learning:
            self.learned_ns = at_ns
        counts: dict[str, float] = {}
        for key, shown_by in self.fresh.items():
            if key in refused:
                continue
            by = () if key in doubted else shown_by
            counts[_kind(key)] = counts.get(_kind(key), 0.0) + len(by)
            new = _seen_again(seen.get(key), by, at_ns)
            shared = len(new.by) >= min(3, max(members, 2))
            alone = new.blocks >= BLOCKS_ALONE and at_ns - new.first_ns >= alone_ns
            usual = shared or alone or new.days >= HABIT_DAYS
            settled = learning or new.normal or (usual and _kind(key) not in PROVING)
            seen[key] = replace(new, normal=settled)
        self._count(counts, members)
        self.seen = self._bounded(seen, most)
        self._count_singles()
        self.fresh = {}

    def _count(self, counts: dict[str, float], members: int) -> None:
        kinds = {*self.trials, *counts}
        self.total += members
        self.trials = {
            kind: self.trials.get(kind, self.total - members) + max(counts.get(kind, 0.0), members)
            for kind in sorted(kinds)
        }
        if self.total > _MOST_TRIALS:
            self.total /= 2
            self.trials = {kind: trials / 2 for kind, trials in self.trials.items()}
            self.lost = {kind: lost / 2 for kind, lost in self.lost.items()}

    def _bounded(self, seen: dict[str, Seen], most: int) -> dict[str, Seen]:
        """At most so many: what was seen least and longest ago goes, and is counted."""
        if len(seen) <= most:
            return seen
        order = sorted(seen, key=lambda key: (seen[key].blocks > 1, seen[key].last_ns, key))
        lost = dict(self.lost)
        for key in order[: len(seen) - most * 7 // 8]:
            if seen.pop(key).trials == 1:
                lost[_kind(key)] = lost.get(_kind(key), 0.0) + 1.0
        self.lost = lost
        return seen

    def _count_singles(self) -> None:
        singles: dict[str, float] = {}
        for key, fact in self.seen.items():
            kind = _kind(key)
            if fact.trials == 1 and (kind in FLOWING or fact.first_ns > self.learned_ns):
                singles[kind] = singles.get(kind, 0.0) + 1.0
        self.singles = singles


def _kind(key: str) -> str:
    return key.partition(" ")[0]


def _seen_again(old: Seen | None, by: tuple[str, ...], at_ns: int) -> Seen:
    if old is None:
        return Seen(at_ns, at_ns, min(len(by), 1), len(by), by, normal=False)
    named = old.by + tuple(subject for subject in by if subject not in old.by)
    return replace(
        old, last_ns=at_ns, blocks=old.blocks + min(len(by), 1), trials=old.trials + len(by),
        by=named[:MOST_NAMED], days=old.days + (at_ns - old.last_ns >= APART_NS),
    )  # fmt: skip  # short enough
