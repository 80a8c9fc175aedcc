"""Where an address is: its country and who runs its network, from files of the MaxMind DB format.

GeoLite2, DB-IP and IPinfo come as such files, whose fields differ a little. They are brought up
to date every few days, by others: what has changed is opened anew.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import maxminddb
import structlog
from maxminddb import InvalidDatabaseError, Reader

from models.errors import ConfigurationError
from producers.pace import Every

LOOK_NS: Final = 60 * 10**9
"""How often we look whether a file has changed."""
LONGEST: Final = 64
log = structlog.get_logger("gather")


@dataclass(frozen=True, slots=True)
class Place:
    """``country`` by its ISO 3166 code; ``network`` by the number of the autonomous system, and
    who runs it. Empty where no file tells.
    """

    country: str = ""
    network: str = ""


NOWHERE: Final = Place()


class Places:
    """Tells places by address; without a file, none.

    Raises: ConfigurationError for a file that is not there, or is no such file.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._changed = tuple(map(_changed, files))
        self._readers = tuple(map(_opened, files))
        self._look = Every(LOOK_NS)
        self._look.due(time.monotonic_ns())
        self._found = functools.lru_cache(maxsize=65_536)(self._find)

    def of(self, address: str) -> Place:
        """Where it is; nowhere for what is no address, or in no file."""
        if not self._readers:
            return NOWHERE
        if self._look.due(time.monotonic_ns()):
            self._refresh()
        return self._found(address)

    def _find(self, address: str) -> Place:
        country = network = ""
        for reader in self._readers:
            try:
                told = reader.get(address)
            except (ValueError, TypeError, InvalidDatabaseError):  # a name, say
                continue
            if isinstance(told, Mapping):
                country, network = country or _country(told), network or _network(told)
        return Place(country, network)

    def _refresh(self) -> None:
        """Open anew what has changed; what can't be opened now stays as it was."""
        changed = tuple(map(_changed, self._files))
        if changed == self._changed:
            return
        self._changed = changed
        try:
            self._readers = tuple(map(_opened, self._files))
        except ConfigurationError as problem:
            log.warning("places-not-read", problem=str(problem), todo="the old ones stay in use")
            return
        self._found.cache_clear()
        log.info("places-read", files=[str(file) for file in self._files])


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _opened(file: Path) -> Reader:
    """In memory: a file that is overwritten in its place would change under a map of it."""
    try:
        return maxminddb.open_database(file, maxminddb.MODE_MEMORY)
    except (OSError, InvalidDatabaseError, ValueError, TypeError, KeyError) as problem:
        raise ConfigurationError(
            f"gather.places: {file} can't be read as a MaxMind DB file ({problem}): give the path "
            "of a .mmdb of countries or networks, such as GeoLite2-Country, or none"
        ) from problem


def _country(told: Mapping[str, Any]) -> str:
    """GeoLite2's and DB-IP's way, or IPinfo's."""
    country = told.get("country")
    code = country.get("iso_code") if isinstance(country, Mapping) else country
    code = code or told.get("country_code")
    return code if isinstance(code, str) and len(code) == 2 and code.isalpha() else ""


def _network(told: Mapping[str, Any]) -> str:
    number = told.get("autonomous_system_number") or told.get("asn") or ""
    name = told.get("autonomous_system_organization") or told.get("as_name") or ""
    if not isinstance(number, int | str) or not number:
        return ""
    short = f"AS{str(number).removeprefix('AS')} {name}".strip()
    return short[:LONGEST] if short.isprintable() else short.split(" ", 1)[0][:LONGEST]
