"""Told is the verdict that turned it; what came after somebody answered says less."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from models.records.verdict import Evidence, Family, Level, Reason, Verdict
from streams.commands import explain
from streams.explaining import Course

SENT = Reason(Family.EGRESS, Evidence.MAGNITUDE, "sent 48 MB/s; usual 1 to 20 kB/s", "", 4.8e7)
STILL = Reason(Family.EGRESS, Evidence.MAGNITUDE, "sent 0 B/s, rising", "", 0.0)
NS = 10**9
WATCH = Verdict(
    "v0", "default", "shop/web", "", "shop/web@1", "c" * 64, "h1", 10**18, 10**18, Level.WATCH, 0.5,
    (Family.EGRESS,), (SENT,), name="web-1",
)  # fmt: skip  # as the fields lie
TURNING = replace(WATCH, uid="v1", at_ns=10**18 + 10 * NS, level=Level.COMPROMISED, score=0.9)
CUT_OFF = replace(TURNING, uid="v2", at_ns=10**18 + 30 * NS, score=0.99, reasons=(STILL,))


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *course: Verdict,
    as_json: bool = False,
) -> str:  # fmt: skip  # two lines say as much
    monkeypatch.setattr(explain, "_course", lambda *_: (Course(course), "inc-1"))
    explain.command("web-1", "24h", again=False, as_json=as_json)
    return capsys.readouterr().out


def test_told_is_the_verdict_that_turned_it_and_then_the_strongest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container that is cut off differs most of all, and that explains nothing."""
    text = said(monkeypatch, capsys, WATCH, TURNING, CUT_OFF)

    assert text.index("score 0.90") < text.index("sent 48 MB/s")
    assert text.index("sent 48 MB/s") < text.index("its strongest verdict")
    assert text.index("score 0.99") < text.index("sent 0 B/s")


def test_where_both_are_one_it_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody compares two equal tables at night."""
    assert "strongest" not in said(monkeypatch, capsys, WATCH, TURNING)


def test_a_machine_gets_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = orjson.loads(said(monkeypatch, capsys, WATCH, TURNING, CUT_OFF, as_json=True))

    assert (told["verdict"]["uid"], told["strongest"]["uid"]) == ("v1", "v2")
