"""Where an address is, by files that others write and bring up to date."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from structlog.testing import capture_logs

from models.errors import ConfigurationError
from producers.gather import places as module
from producers.gather.places import NOWHERE, Place, Places

GEOLITE = {"country": {"iso_code": "NL", "names": {"en": "The Netherlands"}}}
DBIP = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"}
IPINFO = {"country": "BR", "asn": "AS64501", "as_name": "Exemplo Ltda"}


def written(file: Path, told: Mapping[str, Mapping[str, Any]], *, ip: int = 6) -> Path:
    """A file that tells something of each network."""
    writer = MMDBWriter(ip, "Test", ipv4_compatible=ip == 6)
    for network, fields in told.items():
        writer.insert_network(IPSet([network]), dict(fields))
    writer.to_db_file(str(file))
    return file


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (GEOLITE, Place("NL")),
        (DBIP, Place("", "AS64500 Example Net")),
        (IPINFO, Place("BR", "AS64501 Exemplo Ltda")),
        ({"country_code": "DE", "autonomous_system_number": 7}, Place("DE", "AS7")),
        ({"country": {"names": {"en": "?"}}, "asn": ""}, Place()),
        ({"country": "Brazil", "asn": ["AS1"]}, Place()),
        ({"asn": "AS9", "as_name": "two\nlines"}, Place("", "AS9")),
    ],
)
def test_each_providers_fields_are_read(
    tmp_path: Path, fields: Mapping[str, Any], place: Place
) -> None:
    """They share a format and not their names; what they tell may be anything."""
    places = Places([written(tmp_path / "a.mmdb", {"198.51.100.0/24": fields})])
    assert places.of("198.51.100.9") == place


def test_what_no_file_tells_is_nowhere(tmp_path: Path) -> None:
    """Names, addresses that are in no file, and IPv6 where there is none."""
    old = written(tmp_path / "old.mmdb", {"198.51.100.0/24": GEOLITE}, ip=4)
    new = written(tmp_path / "new.mmdb", {"2001:db8::/32": DBIP})
    places = Places([old, new])
    assert places.of("198.51.100.9") == Place("NL")
    assert places.of("2001:db8::1") == Place("", "AS64500 Example Net")
    for address in ("203.0.113.1", "db.internal", "", "fe80::1%eth0"):
        assert places.of(address) == Place()
    assert Places([]).of("198.51.100.9") is NOWHERE


def test_a_file_that_changes_is_read_anew_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updates come every few days, and may fail halfway; nobody starts gather for that."""
    monkeypatch.setattr(module, "LOOK_NS", 0)
    file = written(tmp_path / "a.mmdb", {"198.51.100.0/24": GEOLITE})
    places = Places([file])
    assert places.of("198.51.100.9").country == "NL"

    written(tmp_path / "b.mmdb", {"198.51.100.0/24": IPINFO}).replace(file)
    os.utime(file, ns=(1, 1))
    assert places.of("198.51.100.9").country == "BR"

    file.write_bytes(b"half of it")
    with capture_logs() as logs:
        assert places.of("198.51.100.9").country == "BR"
        assert places.of("198.51.100.9").country == "BR"
    (told,) = logs
    assert (told["event"], told["log_level"]) == ("places-not-read", "warning")
    assert str(file) in told["problem"]


@pytest.mark.parametrize("content", [None, b"", b"not one", bytes(4_096)])
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path, content: bytes | None) -> None:
    """At the start somebody is there to mend it."""
    file = tmp_path / "places.mmdb"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"gather.places: {file} .* such as GeoLite2"):
        Places([file])
