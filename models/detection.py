"""What may be set about detection, with the reason for each default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from models.budget import Scope

Detector = Literal["distance", "onset", "forest"]
DETECTORS: Final[tuple[Detector, ...]] = ("distance", "onset", "forest")


@dataclass(frozen=True, slots=True)
class Detection:
    """Times are event time; a *line* is in deviations (see models/detectors/distance.py)."""

    budget_alarms_per_day: float = 1.0
    """False alarms that may be raised a day, of what ``budget_scope`` says; the line is put where
    the tail of an image's own quiet blocks says so (models/budget.py)."""
    budget_scope: Scope = Scope.LINEAGE
    """Of the fleet (then split evenly among ``budget_lineages``), or of each lineage, image or
    container."""
    budget_lineages: int = 1
    """Among how many lineages a fleet's budget is split."""
    detectors: tuple[Detector, ...] = DETECTORS
    """What weighs magnitudes. Where all do, the distance carries, with what siblings do taken
    out; the forest may double it, and an onset leans on it. Without the distance the forest's
    surprise counts, where the container departs: cheaper, and it finds less."""
    line_least: float = 6.0
    """The line never lies nearer: below, heavy tails of ordinary load live."""
    line_most: float = 12.0
    """Nor further, so that nobody can lift it out of the way by making noise."""
    line_rise_per_min: float = 0.2
    """The line rises no faster: half an hour from one bound to the other. Otherwise a slow
    leak would teach the line to stay ahead of it."""
    fast_s: float = 8.0
    """Memory of the horizon that sees spikes and steps: a few samples at 1 and at 5 s."""
    slow_s: float = 40.0
    """Memory of the horizon that sees what is small but stays."""
    memory_sustained_s: float = 25.0
    """How long memory must be past the line before it is a fault."""
    resource_sustained_s: float = 120.0
    """The same for other resources: work comes in bursts, and a job may take a minute."""
    other_sustained_s: float = 10.0
    """The same for other magnitudes, when no fact speaks for them."""
    grace_s: float = 45.0
    """Magnitudes of so young a container condemn nothing: starting up is dear."""
    young_s: float = 10.0
    """Samples of a container younger than that (and four intervals) are not even learned."""
    block_intervals: int = 10
    """Samples a container in one block of learning: enough for a mean and a spread."""
    block_least_s: float = 10.0
    block_most_s: float = 120.0
    learn_blocks: int = 4
    """Blocks before a magnitude may condemn …"""
    learn_container_blocks: int = 12
    """… and (container, block) pairs: three siblings know after four blocks what one knows
    after twelve."""
    settle_blocks: int = 12
    """Blocks before a resource may condemn alone …"""
    settle_s: float = 180.0
    """… and the container's age: caches fill and compilers warm up for minutes."""
    material: float = 0.1
    """How far beyond the usual range a resource must be to condemn alone, in transformed
    units: about a tenth more than ever."""
    onset_ticket_s: float = 3_600.0
    """What sets in within so long after it did in the same container is no news."""
    delay_blocks: int = 2
    """Blocks that wait before they teach, so that an incident can veto them."""
    learn_minutes_alone: float = 30.0
    """A fact that one container shows becomes normal after so long (and 24 blocks), if
    nothing speaks against it; one that its siblings share, at the next block."""
    rare: float = 0.95
    """Rarity from which a new fact is worth a word."""
    hold_s: float = 60.0
    """A level falls once what led to it is that long ago."""
    fact_s: float = 60.0
    """How long a new fact speaks after it was last seen."""
    proof_s: float = 300.0
    """How long a proof does."""
    repeat_s: float = 10.0
    """Between two verdicts on one subject of which nothing but the score differs."""
    silent_s: float = 30.0
    """A member is silent after that long (and five intervals) without a sample."""
    forget_s: float = 900.0
    """A silent member is forgotten after that long."""
    findings_per_minute: int = 30
    """Of one lineage; what is more is counted and said in the next one."""
    most_members: int = 20_000
    most_facts: int = 4_096
    """Facts that a lineage remembers: the oldest that were seen once go first."""
