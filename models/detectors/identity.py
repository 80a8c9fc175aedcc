"""How a container starts, aspect by aspect, against how its image always has.

Environment values are HMACs, and differ for good reasons: each name is an aspect of its own,
a name whose value differs between siblings says nothing, and no value is ever shown.
"""

from __future__ import annotations

import hashlib
from typing import Final

import orjson

from models.detectors.rarity import PROOF, STRONG, WEAK
from models.records.facts import BootIdentity

ASPECTS: Final = (
    "command", "entrypoint", "mounts", "capabilities_added", "capabilities_dropped",
    "privileged", "user", "read_only_root", "network_mode", "pid_mode", "security_options",
    "devices",
)  # fmt: skip  # a list
MOST_VARIANTS: Final = 4
"""An aspect that was seen in more ways than this says nothing."""
MOST_NAMES: Final = 128
_ENVIRONMENT: Final = "environment "

Starts = dict[str, tuple[str, ...]]


def digests(boot: BootIdentity) -> dict[str, str]:
    """A short digest for each aspect."""
    made = {aspect: _digest(getattr(boot, aspect)) for aspect in ASPECTS}
    names = sorted(boot.environment or {})[:MOST_NAMES]
    return made | {_ENVIRONMENT + name: _digest((boot.environment or {})[name]) for name in names}


def _digest(value: object) -> str:
    body = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(body, digest_size=6).hexdigest()


def changed(starts: Starts, boot: BootIdentity) -> list[str]:
    """The aspects in which this start differs from every one seen; none where none was.

    >>> first = digests(BootIdentity("shop/cart@sha256:1"))
    >>> known = {aspect: (digest,) for aspect, digest in first.items()}
    >>> changed(known, BootIdentity("shop/cart@sha256:1", privileged=True))
    ['privileged']
    """
    if not starts:
        return []
    return [
        aspect
        for aspect, digest in digests(boot).items()
        if digest not in starts.get(aspect, ()) and not _varies(aspect, starts)
    ]


def _varies(aspect: str, starts: Starts) -> bool:
    most = 2 if aspect.startswith(_ENVIRONMENT) else MOST_VARIANTS
    return len(starts.get(aspect, ())) >= most


def learn(starts: Starts, boot: BootIdentity) -> None:
    """Take this start as one of the image's usual ones."""
    for aspect, digest in digests(boot).items():
        seen = starts.get(aspect, ())
        if digest not in seen and len(seen) < MOST_VARIANTS:
            starts[aspect] = (*seen, digest)


def grade(starts: Starts, aspects: list[str]) -> int:
    """How loud a change is: a proof, but for the environment. There a new name is suspect,
    another value of a known one only a word.
    """
    if any(not aspect.startswith(_ENVIRONMENT) for aspect in aspects):
        return PROOF
    return STRONG if any(aspect not in starts for aspect in aspects) else WEAK


def told(aspects: list[str], boot: BootIdentity) -> str:
    """The sentence for a person; values of the environment are not in it."""
    shown = (
        aspect
        if aspect.startswith(_ENVIRONMENT)
        else f"{aspect.replace('_', ' ')} {_shown(boot, aspect)}"
        for aspect in aspects
    )
    return f"started otherwise than its image ever has: {'; '.join(shown)}"[:1000]


def _shown(boot: BootIdentity, aspect: str) -> str:
    value = getattr(boot, aspect)
    if isinstance(value, tuple):
        return ", ".join(value)[:200] or "none"
    return str(value)[:200] or "none"
