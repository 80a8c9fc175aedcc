"""The demo as a newcomer runs it: all parts, from a seed to twelve told stories."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

STORIES = {
    "exfiltration", "miner", "dropped-program", "memory-leak", "port-scan", "changed-boot",
}  # fmt: skip  # a list
TWINS = {"partner-address", "load-spike", "deploy", "cache-fills", "scale-out", "restart"}
MOST_S = 300


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `plimsoll demo --json` prints; the exit code is among it."""
    place = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "streams", "demo", "--json", "--directory", str(place)],
        capture_output=True, timeout=MOST_S, check=False, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip  # one thought
    try:
        body: dict[str, Any] = orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        pytest.fail(f"no document: {done.stderr.decode()[-3000:]}")
    return body | {"exit_code": done.returncode}


def told(document: dict[str, Any], *, twin: bool) -> dict[str, dict[str, Any]]:
    return {one["story"]: one for one in document["stories"] if one["twin"] is twin}


def test_every_attack_and_fault_is_seen_answered_and_verified(document: dict[str, Any]) -> None:
    """The promise in one line; each story names what went wrong."""
    stories = told(document, twin=False)

    assert stories.keys() == STORIES
    assert [one for one in stories.values() if not one["right"]] == []
    assert all(one["verified_after_s"] is not None for one in stories.values())


def test_no_benign_twin_is_touched(document: dict[str, Any]) -> None:
    """A detector that cries wolf is switched off."""
    twins = told(document, twin=True)

    assert twins.keys() == TWINS
    assert [one for one in twins.values() if not one["right"]] == []
    assert {one["action"] for one in twins.values()} == {"none"}


def test_nothing_was_rejected_and_the_exit_code_says_so(document: dict[str, Any]) -> None:
    """Whatever the demo's own parts write, each other part reads."""
    assert document["rejected"] == 0
    assert document["exit_code"] == 0


def test_nothing_was_dropped_unread(document: dict[str, Any]) -> None:
    """The embedded broker forgets what is too much for it: the fleet has to wait for readers."""
    said = {log.stem: log.read_text() for log in Path(document["directory"]).glob("*.log")}

    assert "offsets were skipped" not in said["worker"]
    assert "unknown-container" not in said["gather"]


def test_each_answered_story_has_a_report(document: dict[str, Any]) -> None:
    """The post-mortem is one file that opens anywhere."""
    reports = [Path(path) for path in document["reports"]]

    assert len(reports) >= len(STORIES)
    for report in reports:
        text = report.read_text()
        assert "<html" in text
        assert "evidence verified" in text
        assert "http://" not in text.replace("http://www.w3.org/", "")
        assert "<script src" not in text
