"""Records that earlier releases wrote are read for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.records import decode, encode
from tests.core.records.strategies import RECORDS

KEPT = Path(__file__).parent.parent / "kept"
FILES = sorted(KEPT.glob("records-*/*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_kept_bytes_are_still_read(file: Path) -> None:
    """Archives, spools and compacted topics outlive the release that wrote them."""
    kind: type[Any] = {kind.__name__: kind for kind in RECORDS}[file.stem]

    assert encode(decode(kind, file.read_bytes()))


def test_each_record_has_kept_bytes() -> None:
    """A record without them could change its form unnoticed."""
    kept = {file.stem for file in FILES}

    assert kept >= {kind.__name__ for kind in RECORDS}
