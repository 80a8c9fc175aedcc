"""``plimsoll doctor``: every check that there is, in the order in which they are made."""

from __future__ import annotations

from typing import Final

from streams.doctor.base import Check
from streams.doctor.clock import CLOCK
from streams.doctor.here import ENGINE, FOLDERS, KEYS
from streams.doctor.reach import ADDRESS, LOGIN, TLS
from streams.doctor.rights import RIGHTS
from streams.doctor.topics import TOPICS

CHECKS: Final[tuple[Check, ...]] = (
    ADDRESS,
    TLS,
    LOGIN,
    TOPICS,
    RIGHTS,
    CLOCK,
    ENGINE,
    FOLDERS,
    KEYS,
)
"""A new check is a file and a line here."""
