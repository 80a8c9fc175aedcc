"""An envelope that keeps the exact bytes that were signed."""

from __future__ import annotations

from dataclasses import dataclass

from models.records import checks


@dataclass(frozen=True, slots=True)
class Signed:
    """``signature`` is Ed25519 over ``payload`` exactly as it stands, made with the private
    part of the key that ``key`` names.
    """

    key: str
    signature: bytes
    payload: bytes

    def __post_init__(self) -> None:
        checks.name(self.key, "key", 128)
