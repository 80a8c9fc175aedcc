"""Records that earlier releases wrote are read for ever, and mean what they meant."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import orjson
import pytest

from models.records import decode, encode
from models.records.facts import Fact
from models.records.frame import Frame
from models.records.telemetry import Sightings
from tests.core.records.strategies import RECORDS

KEPT = Path(__file__).parent.parent / "kept"
FILES = sorted(KEPT.glob("records-*/*.json"))


def lost(kept: Any, now: Any, place: str = "") -> list[str]:
    """Where something that was kept is no longer, or is another; more may have been added."""
    inner: list[tuple[str, Any, Any]]
    if isinstance(kept, dict) and isinstance(now, dict):
        inner = [(key, kept[key], now.get(key)) for key in kept]
    elif isinstance(kept, list) and isinstance(now, list) and len(kept) == len(now):
        inner = [(str(at), *pair) for at, pair in enumerate(zip(kept, now, strict=True))]
    else:
        return [] if kept == now else [place]
    return [each for key, old, new in inner for each in lost(old, new, f"{place}.{key}")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_kept_bytes_are_read_whole(file: Path) -> None:
    """Archives, spools and compacted topics outlive the release that wrote them. A field that
    was renamed would be passed over in silence.
    """
    kind: type[Any] = {kind.__name__: kind for kind in RECORDS}[file.stem]

    again = encode(decode(kind, file.read_bytes()))

    assert lost(orjson.loads(file.read_bytes()), orjson.loads(again)) == []


def test_each_record_has_kept_bytes() -> None:
    """A record without them could change its form unnoticed."""
    kept = {file.stem for file in FILES}

    assert kept >= {kind.__name__ for kind in RECORDS}


@pytest.mark.parametrize("kind", [Frame, Sightings], ids=lambda kind: kind.__name__)
def test_each_kind_of_fact_has_kept_bytes(kind: type[Frame | Sightings]) -> None:
    """They cross two topics, and archives."""
    kept = decode(kind, (KEPT / f"records-0.1.0/{kind.__name__}.json").read_bytes())

    assert {type(one.fact) for one in kept.observations} >= set(typing.get_args(Fact))
