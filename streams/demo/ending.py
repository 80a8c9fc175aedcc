"""What is left when the demo is over: figures, and a report of each incident that was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streams.demo.director import Director
from streams.demo.script import Told
from streams.demo.stage import Stage
from streams.keys import TrustFile
from streams.report.page import report_of
from streams.stores.incidents import Incidents


def figures(director: Director, wall_s: float) -> dict[str, Any]:
    """How much was judged, and in what time."""
    stage: Stage = director.stage
    notes = stage.notes.notes
    return {
        "samples": notes.counted["samples"],
        "event_time_s": (director.fleet.now_ns() - director.start_ns) / 1e9,
        "wall_s": round(wall_s, 1),
        "alerts": notes.alerts,
        "rejected": len(notes.rejected),
        "directory": str(stage.directory),
    }


def reports(stage: Stage, stories: Sequence[Told]) -> list[str]:
    """One HTML file an answered story, written while the broker still holds its evidence."""
    settings = stage.settings
    trust = TrustFile(settings.keys_dir, stage.fleet.now_ns)
    reader = Incidents(settings.kafka, stage.topics, trust, by_time=False)
    written = []
    for one in stories:
        if one.incident:
            page = report_of(reader, reader.story(one.incident), settings.evidence_dir)
            path = stage.directory / f"{one.story}.html"
            path.write_text(page)
            written.append(str(path))
    return written
