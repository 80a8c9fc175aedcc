"""One piece of evidence, hashed onto the one before."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import MalformedRecord
from models.records import checks


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Number ``sequence`` of its incident's chain. ``previous`` is the hash of the exhibit
    before it (empty for the first); ``sha256`` is of the content, wherever that lies.
    The chain's own hashes are computed in models/evidence.py, over these very fields.
    """

    scope: str
    incident: str
    sequence: int
    kind: str
    taken_ns: int
    source: str
    sha256: str
    size_bytes: int
    previous: str = ""
    content: bytes | None = None
    location: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        for field in ("incident", "kind", "source"):
            checks.name(getattr(self, field), field)
        checks.time(self.taken_ns, "taken_ns")
        checks.between(self.sequence, 0, 2**31, "sequence")
        for field in ("sha256", "previous"):
            _check_digest(getattr(self, field), field)


def _check_digest(value: str, place: str) -> None:
    if value and (len(value) != 64 or not set(value) <= set("0123456789abcdef")):
        raise MalformedRecord("mistyped", "expected 64 hexadecimal digits", place)
