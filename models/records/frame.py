"""What one collector saw of one host during one interval."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.contract import HOST_PREFIX
from models.records import checks
from models.records.facts import Observation
from models.records.inventory import InventoryEntry
from models.records.samples import Samples


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything of one host and interval. ``producer`` names one run of one collector;
    its frames count ``sequence`` from 0, so that a missing one is noticed. The first frame
    carries the whole inventory, later ones what changed. ``dropped`` counts frames that a
    full spool had to give up since the last one that was written.
    """

    scope: str
    host: str
    pool: str
    producer: str
    sequence: int
    at_ns: int
    interval_s: float
    samples: Samples = field(default_factory=Samples)
    observations: tuple[Observation, ...] = ()
    inventory: tuple[InventoryEntry, ...] = ()
    dropped: int = 0

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        checks.name(self.producer, "producer")
        for name in ("host", "pool"):  # with HOST_PREFIX they are a subject and a lineage
            checks.name(getattr(self, name), name, checks.LONGEST_NAME - len(HOST_PREFIX))
        checks.time(self.at_ns, "at_ns")
        checks.between(self.sequence, 0, 2**62, "sequence")
        checks.between(self.interval_s, 1e-3, 86_400, "interval_s")
        checks.between(self.dropped, 0, 2**62, "dropped")
