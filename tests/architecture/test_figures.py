"""The page for whoever is on call names figures that exist."""

from __future__ import annotations

import re
from pathlib import Path

from producers.meters import GatherMeters
from producers.publish import PublishMeters
from streams.meters import ArchiveMeters, Meters

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(plimsoll_[a-z_]+)`")


def test_the_figures_of_the_pages_are_counted_somewhere() -> None:
    """An alert on a figure that nobody counts never rings."""
    registries = (
        Meters().registry, ArchiveMeters().registry, GatherMeters().registry,
        PublishMeters().registry,
    )  # fmt: skip  # by part
    known = {
        name
        for registry in registries
        for family in registry.collect()
        for name in (family.name, f"{family.name}_total")
    }
    pages = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    named = {name for page in pages for name in NAMED.findall(page)}
    assert "plimsoll_lag_records" in named
    assert named <= known
