"""What is counted and said."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Iterator

import pytest
import structlog

from infra.kafka import free_port
from streams.meters import Meters, bound, configure_logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_one_json_object_with_event_level_and_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Log stores search by field; results stay alone on standard output."""
    configure_logs(form="json")
    bound(part="worker")

    structlog.get_logger("x").warning("record rejected", place="samples[3]")

    said = capsys.readouterr()
    line = json.loads(said.err)
    assert said.out == ""
    assert (line["event"], line["level"], line["part"]) == ("record rejected", "warning", "worker")
    assert line["place"] == "samples[3]"
    assert line["ts"].endswith("Z")


def test_libraries_speak_the_same_form_and_only_when_it_matters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Faust's worker sets the root to debug; aiokafka then logs each request."""
    configure_logs(form="json")

    logging.getLogger("aiokafka.conn").info("request")
    logging.getLogger("aiokafka.conn").error("broker %s is gone", "1")

    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "broker 1 is gone"


def test_a_secret_that_is_logged_by_its_name_does_not_leave(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(form="json")

    structlog.get_logger().error("login refused", password="hunter2")

    assert "hunter2" not in capsys.readouterr().err


def test_levels_below_the_least_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning", "json")

    structlog.get_logger().info("model active")

    assert capsys.readouterr().err == ""


def test_counters_of_two_parts_never_meet() -> None:
    """Two judges in one process would each report the other's work."""
    one, other = Meters(), Meters()

    one.rejected.labels("mistyped").inc()

    assert one.read("rejected", fault="mistyped") == 1
    assert other.read("rejected", fault="mistyped") == 0


def test_metrics_are_served_on_loopback_where_a_port_is_set() -> None:
    """Prometheus reads them; nobody else should."""
    meters, port = Meters(), free_port()
    meters.orders.labels("isolate").inc()

    meters.serve(port)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        assert 'plimsoll_orders_total{action="isolate"} 1.0' in page.read().decode()
