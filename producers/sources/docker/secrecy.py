"""What leaves the host of values that may be secret: an HMAC, never the value.

Equal values keep equal HMACs under one deployment key, so a changed password is seen as a
change without ever being told.
"""

from __future__ import annotations

import hmac
import math
import os
import re
import secrets
from collections import Counter
from pathlib import Path
from typing import Final

import structlog

from models.errors import ConfigurationError

log = structlog.get_logger("collect")

KEY_FILE: Final = "deployment.key"
LEAST_KEY_BYTES: Final = 16
LONGEST: Final = 2_000
"""Longer command lines are cut: they go to people and into baselines."""
SEARCHED: Final = 2 * LONGEST

_STRONG: Final = r"[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[-_]?key|credential)[\w.-]*"
"""Words that make a name secret wherever in it they stand …"""
_WEAK: Final = r"(?:[\w.-]*[-_.])?(?:pass|pwd|key|auth)(?:[-_.][\w.-]*)?"
"""… and words that do so on their own only: no keyboard, no author."""
_VALUE: Final = r"""(?P<value>"[^"]*"|'[^']*'|[^\s'"&;,]+)"""
_AUTHORIZATION: Final = re.compile(rf"(?i)(?P<lead>\b(?:bearer|basic)\s+){_VALUE}")
_USERINFO: Final = re.compile(r"(?P<lead>\b[a-z][a-z0-9+.-]*://)(?P<value>[^\s/@'\"]+)(?=@)")
_NAMED: Final = re.compile(
    rf"""(?i)(?P<lead>(?<![\w.-])(?:--?)?(?:{_STRONG}|{_WEAK})(?:\s*=\s*|["']?\s*:\s*)){_VALUE}""",
    re.IGNORECASE,
)
_FLAGGED: Final = re.compile(rf"(?P<lead>(?<!\S)--?(?:{_STRONG}|{_WEAK})\s+)(?!-){_VALUE}")
_SHORT: Final = re.compile(
    r"(?P<lead>\b(?:(?:mysql\w*|mariadb\S*|7z\w*)\b.*?\s-p|redis-cli\b.*?\s-a\s*"
    r"|(?:sshpass|mongo\w*)\b.*?\s-p\s*|login\b.*?\s-p\s*|curl\b.*?\s(?:-u|--user)\s*"
    r"|ldap\w+\b.*?\s-w\s*|(?:zip|unzip)\b.*?\s-P\s*|ssh-keygen\b.*?\s-[NP]\s*"
    r"|snmp\w+\b.*?\s-[AX]\s*|htpasswd\s+-\w*b\w*\s+\S+\s+\S+\s+|vault\s+login\s+(?!-)"
    rf"|(?i:identified\s+by)\s+)){_VALUE}"
)
"""Well-known programs whose flag for a password is one letter, or none."""
_CHPASSWD: Final = re.compile(r"(?P<lead>\b[\w.-]+:)(?P<value>[^\s'\"|:]+)(?=.*\bchpasswd\b)")
_LONG: Final = re.compile(r"(?P<lead>)(?P<value>[A-Za-z0-9+/_=-]{20,})")
_LEAST_BITS: Final = 3.6
_DIGEST: Final = re.compile(r"(?:sha256:)?[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32}")


class Secrecy:
    """HMAC-SHA256 under the deployment's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def hidden(self, value: str) -> str:
        """What stands for a value: 128 bits of its HMAC, in hex."""
        return hmac.digest(self._key, value.encode("utf-8", "replace"), "sha256").hex()[:32]

    def scrubbed(self, text: str) -> str:
        """A command line without what looks like a secret, printable and not too long.

        >>> Secrecy(b"k").scrubbed("mysql --password=hunter2 -h db")
        'mysql --password=<hidden:...> -h db'
        """
        text = self._shortened(text)
        for pattern in (_AUTHORIZATION, _USERINFO, _NAMED, _FLAGGED, _SHORT, _CHPASSWD):
            text = pattern.sub(self._replace, text)
        text = _LONG.sub(self._replace_random, text)
        return printable(text, LONGEST)

    def _shortened(self, text: str) -> str:
        """Patterns take long over long lines: what will be cut is never searched, and no
        half of a secret is left over. One endless word is hidden as a whole.
        """
        if len(text) <= SEARCHED:
            return text
        whole, _, _ = text[:SEARCHED].rpartition(" ")
        return f"{whole} …" if whole else f"<hidden:{self.hidden(text)[:12]}>"

    def _replace(self, found: re.Match[str]) -> str:
        value = found["value"]
        if "<hidden:" in value or value.lower() in ("bearer", "basic"):
            return found[0]
        return f"{found['lead']}<hidden:{self.hidden(value)[:12]}>"

    def _replace_random(self, found: re.Match[str]) -> str:
        """Only what looks drawn at random: mixed characters, high entropy."""
        value = found["value"]
        return self._replace(found) if looks_random(value) else value


def looks_random(value: str) -> bool:
    """Whether a word reads like key material rather than like a name or a path.

    >>> looks_random("ghp_x8Kq2LmZ7vTn4RwYb1Jc"), looks_random("/usr/share/java/kafka-clients")
    (True, False)
    """
    if value.count("/") > 2 or value.count("-") > 3:
        return False
    kinds = (str.isdigit, str.isupper, str.islower)
    if sum(any(kind(c) for c in value) for kind in kinds) < 2:
        return False
    if not any(c.isdigit() for c in value):
        return False
    if _DIGEST.fullmatch(value):
        return True
    return entropy_bits(value) >= _LEAST_BITS


def entropy_bits(value: str) -> float:
    """Shannon's entropy of its characters, in bits a character.

    >>> entropy_bits("abab")
    1.0
    """
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


def printable(text: str, longest: int) -> str:
    r"""Text as records take it: no control characters, not too long, never empty.

    >>> printable("a\nb", 10), printable("", 10)
    ('a\\nb', '?')
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return text or "?"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def deployment_key(directory: Path) -> tuple[bytes, bool]:
    """The key of HMACs, and whether it had to be made: then equal values of other hosts
    have other HMACs until all share one file.

    Raises: ConfigurationError when it can be neither read nor made.
    """
    path = directory / KEY_FILE
    try:
        made = not path.exists()
        if made:
            _make(path)
        text = path.read_bytes().strip()
    except OSError as problem:
        raise ConfigurationError(
            f"deployment key {path}: {problem.strerror}; make it readable, or name another keys_dir"
        ) from problem
    key = _decoded(text)
    if len(key) < LEAST_KEY_BYTES:
        raise ConfigurationError(
            f"deployment key {path} has {len(key)} bytes, at least {LEAST_KEY_BYTES}: copy the "
            "deployment's, or remove it to have one made"
        )
    return key, made


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(secrets.token_hex(32).encode() + b"\n")
    log.warning("deployment-key-made", file=str(path), do="copy it to every host")


def _decoded(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return text
