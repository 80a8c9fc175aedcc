"""Pieces of evidence → a level. The rules, all of them, in one place.

Magnitudes alone never say *compromised*: load moves many of them together. Facts alone that
are merely new do not either. It takes a magnitude and a fact that agree, or a proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.detectors.rarity import PROOF, STRANGERS, STRONG, WEAK
from models.records.verdict import Evidence, Family, Level, Reason


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing that speaks against a container.

    ``grade``: see models/detectors/rarity.py; a magnitude past the line is STRONG, one that
    is excused (starting, still learning, carried load) WEAK. ``kind`` is the fact's, or
    empty. ``lasted_s``: how long it has spoken. ``open``: may agree with others. ``old``: was
    told long enough ago to be no news, but may still agree with a magnitude. ``alone``: may
    condemn without another. ``leaning``: a magnitude not quite past the line. ``key``: the fact's.
    ``values``: what a magnitude's features measured.
    """

    family: Family
    evidence: Evidence
    grade: int
    reason: Reason
    kind: str = ""
    lasted_s: float = 0.0
    open: bool = True
    old: bool = False
    alone: bool = True
    leaning: bool = False
    key: str = ""
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long magnitudes must last: memory alone, another resource alone (work comes in
    bursts, memory that was taken stays), anything else alone, one with a fact.
    """

    memory_s: float
    resource_s: float
    other_s: float
    agreeing_s: float = 4.0
    stays_s: float = 10.0


def level_of(pieces: Sequence[Piece], patience: Patience) -> Level:
    """The level that the pieces justify together."""
    if any(piece.grade >= PROOF for piece in pieces):
        return Level.COMPROMISED
    facts = [p for p in pieces if p.evidence is Evidence.FACT and p.open]
    felt = [p for p in pieces if p.evidence is Evidence.MAGNITUDE and p.grade >= STRONG]
    strong = [p for p in felt if not p.leaning]
    if _agree(facts, [p for p in felt if _agreeing(p, patience)], patience):
        return Level.COMPROMISED
    if _suspicious(facts, strong, patience):
        return Level.SUSPECT
    if any(_faulty(p, patience) for p in strong):
        return Level.CORRUPTED
    if any(p.family is Family.RESOURCE and p.grade >= STRONG for p in facts):
        return Level.CORRUPTED
    return Level.QUIET if all(piece.old for piece in pieces) else Level.WATCH


def _agreeing(piece: Piece, patience: Patience) -> bool:
    return piece.lasted_s >= (patience.stays_s if piece.leaning else patience.agreeing_s)


def _faulty(piece: Piece, patience: Patience) -> bool:
    """A resource that has been past the line for long enough to be a fault by itself."""
    if piece.family is not Family.RESOURCE or not piece.alone:
        return False
    memory = piece.reason.feature.startswith("memory")
    return piece.lasted_s >= (patience.memory_s if memory else patience.resource_s)


def _agree(facts: Sequence[Piece], strong: Sequence[Piece], patience: Patience) -> bool:
    """A fact and something independent of it that point the same way."""
    for fact in facts:
        if fact.family is Family.RESOURCE:
            continue
        for magnitude in strong:
            if magnitude.family is not Family.RESOURCE:
                return True
            # Work costs CPU: with a new peer that stays it is somebody else's work.
            if fact.kind in STRANGERS and fact.lasted_s >= patience.stays_s:
                return True
        if fact.grade >= STRONG and any(_apart(fact, other) for other in facts):
            return True
    return False


def _apart(fact: Piece, other: Piece) -> bool:
    """Independent facts: of another family, or of one's own but strong and of another kind."""
    if other.family is Family.RESOURCE:
        return False
    if other.family is not fact.family:
        return True
    return other.grade >= STRONG and other.kind != fact.kind


def _suspicious(facts: Sequence[Piece], strong: Sequence[Piece], patience: Patience) -> bool:
    speaking = [p for p in facts if p.family is not Family.RESOURCE and not p.old]
    if any(p.grade >= STRONG for p in speaking) or len({p.family for p in speaking}) > 1:
        return True
    others = (p for p in strong if p.family is not Family.RESOURCE and p.alone)
    return any(p.lasted_s >= patience.other_s for p in others)


__all__ = ["PROOF", "STRONG", "WEAK", "Patience", "Piece", "level_of"]
