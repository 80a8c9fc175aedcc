"""Healthy is what moves, ready is what works; the pages say why where it is neither."""

from __future__ import annotations

from typing import Any

from models.health import Pulse, State, answered, pages


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_part_that_is_starting_is_healthy_and_not_ready() -> None:
    """Starting it anew would not make Kafka answer."""
    clock = Clock()
    pulse = Pulse(clock, 5.0)
    clock.now_s = 500.0
    assert answered("/healthz", pulse.state()) == (200, "healthy")
    assert answered("/readyz", pulse.state()) == (503, "not ready: it is starting")


def test_a_loop_that_comes_round_is_ready_unless_it_waits() -> None:
    clock = Clock()
    pulse = Pulse(clock, 5.0)
    pulse.beat()
    assert answered("/readyz", pulse.state()) == (200, "ready")
    pulse.beat("Kafka is away")
    assert answered("/readyz", pulse.state()) == (503, "not ready: Kafka is away")
    assert answered("/healthz", pulse.state()) == (200, "healthy")


def test_a_loop_that_stands_still_is_neither() -> None:
    """It may be ready as far as it knew when it last came round."""
    clock = Clock()
    pulse = Pulse(clock, 5.0)
    pulse.beat()
    clock.now_s = 6.0
    why = "its loop has not come round for 6 s"
    assert answered("/healthz", pulse.state()) == (503, f"not healthy: {why}")
    assert answered("/readyz", pulse.state()) == (503, f"not ready: {why}")


def test_other_pages_are_anothers() -> None:
    """Prometheus asks the same port."""
    asked: list[Any] = []
    page = pages(lambda environ, _start: [str(environ["PATH_INFO"]).encode()], State)
    assert list(page({"PATH_INFO": "/metrics"}, asked.append)) == [b"/metrics"]
    assert list(page({"PATH_INFO": "/readyz"}, lambda *said: asked.append(said))) == [b"ready\n"]
    assert asked[0][0] == "200 OK"
