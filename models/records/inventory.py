"""What is known of a container (or host) apart from its telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.contract import HOST_PREFIX, telemetry_key
from models.records import checks


class State(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """One container: what it runs, where, as what. Limits are 0 where there is none.

    ``image`` is ``repository@digest``, or ``local/NAME@IMAGE-ID`` for a local build, or
    the image id alone; ``lineage`` is the repository. A host has lineage ``host/POOL``.
    ``addresses`` are its own on every network it is connected to.
    """

    scope: str
    subject: str
    host: str
    image: str
    lineage: str
    role: str = ""
    name: str = ""
    state: State = State.RUNNING
    started_ns: int = 0
    seen_ns: int = 0
    labels: dict[str, str] | None = None
    addresses: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    memory_limit_bytes: int = 0
    cpu_limit_cores: float = 0.0
    replaces: str = ""

    def __post_init__(self) -> None:
        for field in ("subject", "image", "lineage"):
            checks.name(getattr(self, field), field)
        # With the prefix it is a subject, too.
        checks.name(self.host, "host", checks.LONGEST_NAME - len(HOST_PREFIX))
        checks.optional_name(self.role, "role")
        checks.scope(self.scope)

    @property
    def group(self) -> str:
        """The telemetry key of all that concerns this container."""
        return telemetry_key(self.scope, self.lineage, self.role)
