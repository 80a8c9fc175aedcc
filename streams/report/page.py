"""The post-mortem: one HTML file without any outside resource, everything in it escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2

from models.records.telemetry import Batch
from streams.report.plots import HEIGHT, WIDTH, plots, series, usual_of
from streams.report.proof import Proof, proof_of
from streams.report.timeline import Moment, timeline
from streams.report.words import at, clean
from streams.stores.incidents import Incidents, Story

AROUND_MS: Final = 10 * 60_000
"""How much of the telemetry before and after is drawn."""


def report_of(reader: Incidents, story: Story, evidence_dir: Path | None = None) -> str:
    """Read what there is of an incident, verify it, and tell it as one page.

    Raises: BrokerUnreachable.
    """
    proof = proof_of(reader.chain(story.uid, story.created_ms), story, evidence_dir)
    first_ms, last_ms = int(story.latest["start_time"]), int(story.latest["time"])
    batches = reader.telemetry(story.state["group"], first_ms - AROUND_MS, last_ms + AROUND_MS)
    return page(story, proof, batches)


def page(story: Story, proof: Proof, batches: Iterable[Batch] = ()) -> str:
    """The page of what was read already."""
    moments = timeline(proof.exhibits)
    columns = series(batches, story.subject)
    usual = usual_of(story.latest["evidences"])
    return environment().get_template("page.html").render(
        story=story, alert=story.latest, state=story.state, proof=proof, moments=moments,
        plots=plots(columns, usual, _marks(moments)), width=WIDTH, height=HEIGHT,
        key_facts=key_facts(story, moments), reasons=story.latest["evidences"],
    )  # fmt: skip  # by subject


def key_facts(story: Story, moments: Sequence[Moment]) -> list[tuple[str, str]]:
    """The few numbers that everybody asks for first."""
    found = next((one for one in moments if one.tone == "found"), None)
    done = next((one for one in moments if one.tone == "good" and "verified" in one.title), None)
    act = next((one for one in story.state["actions"] if one["verified"]), None)
    facts = [("findings", str(story.latest["count"]))]
    if found is not None and done is not None:
        facts.append(("first finding → verified", f"{(done.at_ns - found.at_ns) / 1e9:.1f} s"))
    if act is not None:
        facts.append(("order → verified, at the responder", f"{act['took_s']:.1f} s"))
    facts.append(("score", f"{story.state['score']:.3f}"))
    facts.append(("replicas of the image", str(story.state["replicas"])))
    return facts


def _marks(moments: Sequence[Moment]) -> list[tuple[int, str]]:
    """Lines in the plots: the first finding, and each act that was verified."""
    found = [(one.at_ns, "found") for one in moments if one.tone == "found"][:1]
    return found + [(one.at_ns, "good") for one in moments if one.tone == "good"][:3]


def environment() -> jinja2.Environment:
    """What all reports are written with: escaped, strict about what is not there."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("streams.report", "templates"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip  # by subject
    environment.filters.update(at=at, clean=_cleaned, at_ns=_at_ns)
    return environment


def _cleaned(value: Any) -> str:
    return clean(str(value))


def _at_ns(value_ns: int) -> str:
    return datetime.fromtimestamp(value_ns / 1e9, UTC).strftime("%H:%M:%S")
