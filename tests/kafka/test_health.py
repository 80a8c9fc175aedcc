"""What a running part answers to /healthz and /readyz is true, whatever its loop does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from infra.kafka import free_port
from tests.fixtures_kafka import TestKafka
from tests.kafka import worker
from tests.kafka.trial import Trial

DEADLINE_S = 60.0
PATIENCE_S = 30.0
"""Half of it makes unhealthy, all of it ends the worker."""
NewTrial = Callable[..., Trial]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def new_trial(kafka: TestKafka, tmp_path: Path, port: int) -> NewTrial:
    told = {"metrics_port": port, "patience_s": PATIENCE_S}
    return lambda **options: Trial(kafka.bootstrap, kafka.prefix(), tmp_path, told | options)


def asked(port: int, page: str) -> tuple[int, str]:
    """Status and text; 0 where nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as found:
            return found.status, found.read().decode()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()
    except (URLError, OSError):
        return 0, ""


def until(port: int, page: str, status: int) -> str:
    """The text, once the page has that status."""
    ends_s = time.monotonic() + DEADLINE_S
    while (found := asked(port, page))[0] != status:
        assert time.monotonic() < ends_s, f"/{page} said {found}, not {status}"
        time.sleep(0.1)
    return found[1]


def test_a_worker_is_ready_once_it_takes_events_and_tells_its_figures(
    new_trial: NewTrial, port: int
) -> None:
    with new_trial() as trial:
        trial.produce(200)
        trial.start()
        assert until(port, "readyz", 200) == "ready\n"
        assert asked(port, "healthz") == (200, "healthy\n")
        trial.until_committed()
        ends_s = time.monotonic() + DEADLINE_S
        lag = f'plimsoll_lag_records{{topic="{trial.source}"}} 0.0'
        while lag not in asked(port, "metrics")[1]:
            assert time.monotonic() < ends_s, asked(port, "metrics")[1]
            time.sleep(0.2)
        assert "plimsoll_recovery_seconds_count 1.0" in asked(port, "metrics")[1]


def test_a_worker_that_reads_its_tables_back_is_healthy_and_not_ready(
    new_trial: NewTrial, port: int
) -> None:
    """Whoever replaces workers one by one must wait for this one."""
    with new_trial() as trial:
        trial.produce(100)
        before = trial.start()
        trial.until_committed()
        before.terminate()
        assert trial.until_ended(before) == 0
        trial.options["widen_s"] = 8.0
        trial.start()
        until(port, "healthz", 200)
        seen = set()
        ends_s = time.monotonic() + DEADLINE_S
        while (found := asked(port, "readyz"))[0] != 200:
            seen.add(found[1])
            assert asked(port, "healthz")[0] == 200
            assert time.monotonic() < ends_s, seen
            time.sleep(0.1)
        assert "not ready: its tables are read back\n" in seen, seen


@pytest.mark.parametrize(
    ("value", "why"),
    [(worker.STUCK, "has not finished the batch"), (worker.BLOCKED, "event loop has not turned")],
    ids=["agent waits for ever", "loop is blocked"],
)
def test_a_worker_that_stands_still_is_not_healthy(
    new_trial: NewTrial, port: int, value: bytes, why: str
) -> None:
    """The loop that stands still can't answer: a thread beside it does."""
    with new_trial() as trial:
        trial.produce(20)
        started = trial.start(**{value.decode().upper(): "1"})
        until(port, "readyz", 200)
        trial.produce(1, value)
        assert why in until(port, "healthz", 503)
        assert asked(port, "readyz")[0] == 503
        assert started.poll() is None, "it was asked before its end"
