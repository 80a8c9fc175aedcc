"""What is known of a model file, and whether it is in use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from models.records import checks


class Stage(StrEnum):
    CANDIDATE = "candidate"
    SHADOW = "shadow"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model of one scope. ``sha256`` is of the file's bytes, which lie in the model
    store under that name; ``features`` are the names of the forest's inputs, in order.
    An active model counts for events at or after ``active_from_ns``.
    """

    uid: str
    scope: str
    stage: Stage
    algorithm: str
    features: tuple[str, ...]
    sha256: str
    size_bytes: int
    trained_ns: int
    active_from_ns: int
    rows: int = 0
    from_ns: int = 0
    until_ns: int = 0
    detail: dict[str, str] | None = None

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        checks.name(self.uid, "uid", 128)
