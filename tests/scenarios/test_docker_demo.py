"""One story of `make demo-docker`, from a real container to a verified isolation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import docker
import orjson
import pytest

from infra.kafka import KafkaUnavailable, jars

MOST_S = 600
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _servers(docker_client: docker.DockerClient) -> None:
    """The demo brings its own Kafka; it needs an engine, and the jars."""
    assert docker_client.ping()
    try:
        jars()
    except KafkaUnavailable as reason:
        pytest.skip(f"no Kafka: {reason}")


@pytest.mark.slow
@pytest.mark.timeout(MOST_S)
def test_a_program_that_the_image_does_not_have_is_isolated_for_real(tmp_path: Path) -> None:
    """The whole line at once: kernel, collector, Kafka, judge, governor, engine, evidence."""
    here = set(ROOT.iterdir())
    done = subprocess.run(
        _demo("--json", "--story", "dropped-program"),
        capture_output=True, cwd=ROOT, env=_keeping_in(tmp_path), timeout=MOST_S - 20, check=False,
    )  # fmt: skip  # one call, one thought
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    document: dict[str, Any] = orjson.loads(done.stdout)

    (story,) = document["stories"]
    assert (story["level"], story["action"]) == ("compromised", "isolate")
    assert story["verified_after_s"] >= story["seen_after_s"] >= 0
    assert all(look["right"] for look in document["looks"])
    assert document["rejected"] == 0
    assert "<html" in Path(document["reports"][0]).read_text()
    assert "left behind: nothing" in done.stderr.decode()
    assert set(ROOT.iterdir()) == here


@pytest.mark.slow
@pytest.mark.timeout(MOST_S)
@pytest.mark.parametrize("said", ["-- starting", "-- warming up"])
def test_an_interrupted_demo_puts_everything_back(said: str, tmp_path: Path) -> None:
    """Nobody waits for the end of what they have seen enough of. As a terminal does it: all
    processes get the signal, and people press it more than once.
    """
    demo = subprocess.Popen(
        _demo(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True,
        start_new_session=True, env=_keeping_in(tmp_path),
    )  # fmt: skip  # one call, one thought
    with demo:
        assert demo.stdout is not None
        _read_until(demo.stdout, said)
        os.killpg(demo.pid, signal.SIGINT)
        _read_until(demo.stdout, "-- everything is put back", also=lambda: _again(demo.pid))
        rest = demo.stdout.read()

    assert demo.returncode == 130, rest
    assert "left behind: nothing" in rest
    assert "Traceback" not in rest


def _again(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGINT)


def _keeping_in(place: Path) -> dict[str, str]:
    """Where the demo keeps logs and reports for its reader."""
    return {**os.environ, "TMPDIR": str(place)}


def _demo(*words: str) -> Sequence[str]:
    return (sys.executable, "-m", "infra.demo_docker", *words)


def _read_until(lines: IO[str], wanted: str, also: Callable[[], None] = lambda: None) -> None:
    also()
    for line in lines:
        if line.startswith(wanted):
            return
        also()
    pytest.fail(f"it ended without saying {wanted!r}")
