"""The report: one file, everything escaped, told from the chain itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models.records.control import Verb
from models.records.order import Status, Submission
from models.records.samples import Samples
from models.records.telemetry import Batch, Member
from models.records.verdict import Evidence, Family, Level, Reason
from streams.alerts import unwrapped, wrapped
from streams.report.page import page
from streams.report.plots import plots, series
from streams.report.proof import Proof, proof_of
from streams.report.timeline import timeline
from streams.report.words import clean, told
from streams.stores.evidence import EvidenceStore
from streams.stores.incidents import Chain, Story
from tests.core.governing import SECOND_NS, START_NS, Bench, finding, outcome, subject, word

HOSTILE = "<script>alert(1)</script>\x1b[2J'\"><img src=x onerror=alert(2)>"
HUGE = b"x" * 40_000


def bench_of(**given: Any) -> Bench:
    """An incident from found to released."""
    bench = Bench()
    bench.take(finding(Level.SUSPECT, **given), finding(at_s=6, **given))
    flows = Submission("flows", _sha(b"[]"), 2, START_NS + 7 * SECOND_NS, b"[]")
    bench.take(outcome(bench.orders[0], at_s=8, submissions=(flows,)))
    bench.take(word(Verb.CONFIRM, bench.uid, 30, because="seen in the proxy's log too"))
    bench.take(word(Verb.RELEASE, bench.uid, 60))
    bench.take(outcome(bench.orders[1], Status.RELEASED, 61, stage="released"))
    return bench


def _sha(content: bytes) -> str:
    from models.evidence import content_hash

    return content_hash(content)


def story_of(bench: Bench) -> Story:
    records = [wrapped(alert) for alert in bench.alerts]
    return Story(bench.uid, tuple(unwrapped(one.key, one.value, one.headers) for one in records))


def proof(bench: Bench, story: Story | None = None) -> Proof:
    return proof_of(Chain(list(bench.exhibits), list(bench.heads)), story or story_of(bench))


def batches() -> list[Batch]:
    """Two minutes of one container that begins to send at second 60."""
    times = np.arange(0, 120, 5)
    sent = np.where((times >= 60) & (times < 70), 8e5, 4e3 + 500 * np.sin(times))
    columns = np.vstack([sent, 0.2 + 0.02 * np.cos(times), np.full(times.size, 8e7)])
    table = Samples(
        ("network_transmit_bytes_per_s", "cpu_cores", "memory_working_set_bytes"), (subject(1),),
        np.zeros(times.size, np.int64), START_NS + (times.astype(np.int64) - 60) * SECOND_NS,
        columns,
    )  # fmt: skip  # as the fields lie
    member = Member(subject(1), "h1", "registry/shop/cart@sha256:1")
    return [Batch("default", "registry/shop/cart", "web", (member,), table, 5.0)]


class Tags(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_tells_the_whole_story_and_needs_nothing_else() -> None:
    """An auditor opens it in three years, on a machine without network."""
    bench = bench_of()
    text = page(story_of(bench), proof(bench), batches())

    for said in (
        "sent 48 MB in 60 s", "isolate ordered", "verified in 0.8 s", "no answer either way",
        "ann: confirm", "seen in the proxy&#39;s log too", "evidence verified", "the chain holds",
        "network_transmit_bytes_per_s", "<polyline", bench.exhibits[-1].previous,
        "flows 2B",
    ):  # fmt: skip  # a list to read across
        assert said in text, said
    tags = Tags()
    tags.feed(text)
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in tags.found}
    assert not [a for _, a in tags.found if {"src", "href", "onerror"} & a.keys()]
    assert not re.search(r"https?://|url\(", text)


def test_what_a_container_calls_itself_is_text_and_nothing_more() -> None:
    """Names, reasons and details come from whoever broke in."""
    reason = Reason(Family.PROCESS, Evidence.PROOF, HOSTILE, HOSTILE, 1.0, 0.0, 1.0, 0.5, HOSTILE)
    bench = bench_of(name=HOSTILE, reasons=(reason,))
    story = story_of(bench)
    text = page(story, proof(bench))

    tags = Tags()
    tags.feed(text)
    assert not {"script", "img"} & {tag for tag, _ in tags.found}
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in "".join(told(story))
    assert clean("a\nb\x1b") == "a·b·"


def test_a_chain_that_was_touched_is_said_to_be_on_the_first_screen() -> None:
    """A report over changed evidence must not look like one over sound evidence."""
    bench = bench_of()
    story = story_of(bench)
    del bench.exhibits[1]
    broken = proof(bench, story)

    assert not broken.holds
    text = page(story, broken)
    assert "evidence does not hold" in text
    assert "THE CHAIN DOES NOT HOLD" in text


def test_contents_in_the_store_are_looked_at(tmp_path: Path) -> None:
    """A chain of digests proves nothing about files that were swapped."""
    store, bench = EvidenceStore(tmp_path), Bench()
    kept = store.keep("default", "inc-1", HUGE)
    bench.take(finding())
    piece = Submission("files", kept.sha256, len(HUGE), START_NS, None, kept.location)
    bench.take(outcome(bench.orders[0], submissions=(piece,)))
    chain, story = Chain(list(bench.exhibits), list(bench.heads)), story_of(bench)
    assert proof_of(chain, story, tmp_path).holds
    assert proof_of(chain, story, tmp_path).rows[-1]["result"] == "ok, content too"

    (tmp_path / kept.location).write_bytes(b"y" * len(HUGE))
    touched = proof_of(chain, story, tmp_path)
    assert not touched.holds
    (tmp_path / kept.location).unlink()
    assert proof_of(chain, story, tmp_path).rows[-1]["result"] == "ok (content not at hand here)"


def test_plots_keep_the_peak_and_only_the_subject() -> None:
    """Thinning that loses the spike draws an innocent container."""
    columns = series(batches(), subject(1))
    points = [(START_NS + i * SECOND_NS, 9.0 if i == 1234 else 1.0) for i in range(5000)]
    (drawn,) = plots({"cpu_cores": points}, {}, [])

    assert series(batches(), subject(2)) == {}
    assert len(columns["cpu_cores"]) == 24
    assert drawn.highest == "9"
    assert len(drawn.line.split()) <= 600
    assert min(float(one.split(",")[1]) for one in drawn.line.split()) < 10


def test_plots_lie_over_the_same_time() -> None:
    """What stands above each other is read as having happened together."""
    late = [(START_NS + i * SECOND_NS, 1.0) for i in range(50, 101)]
    early = [(START_NS + i * SECOND_NS, 1.0) for i in range(51)]
    mark = START_NS + 50 * SECOND_NS

    drawn = plots({"cpu_cores": early, "processes": late}, {}, [(mark, "found")])

    assert {(one.begins_ns, one.ends_ns) for one in drawn} == {(early[0][0], late[-1][0])}
    assert [one.marks for one in drawn] == [((160.0, "found"),)] * 2


def test_slow_evidence_is_no_second_isolation(tmp_path: Path) -> None:
    """It comes with an outcome of its own, which repeats what was done; and where it lies is
    for whoever looks for it, not for whoever reads what happened.
    """
    kept = EvidenceStore(tmp_path).keep("default", "inc-1", HUGE)
    bench = bench_of()
    piece = Submission("file", kept.sha256, len(HUGE), START_NS, None, kept.location, "/tmp/xmrig")
    bench.take(outcome(bench.orders[0], at_s=9, stage="evidence", submissions=(piece,)))
    told_proof = proof(bench)

    moments = timeline(told_proof.exhibits)
    assert [one.title for one in moments].count("isolate done, verified in 0.8 s") == 1
    assert any("file 40kB (/tmp/xmrig)" in one.detail for one in moments)
    assert kept.location not in "".join(one.detail for one in moments)
    assert kept.location in page(story_of(bench), told_proof)


@pytest.mark.parametrize("level", [Level.WATCH, Level.CORRUPTED, Level.SUSPECT])
def test_an_incident_without_acts_has_a_page_too(level: Level) -> None:
    """Most incidents are read, not answered."""
    bench = Bench()
    bench.take(finding(level, reasons=()))
    text = page(story_of(bench), proof(bench))

    assert level.value in text
    assert orjson.dumps(story_of(bench).latest)
