"""Open ports, and what a look at what is known already may cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from models.records.facts import Listen
from producers.sources.docker import listens
from producers.sources.docker.listens import Namespace
from tests.docker.collecting import PAUSE_S, Collecting
from tests.docker.test_connections import serving
from tests.fixtures_docker import TestEngine

ROOT = Path("/")


def pid_of(docker_engine: TestEngine, *command: str) -> int:
    container = docker_engine.run(docker_engine.image("ports"), list(command) or None)
    container.reload()
    return int(container.attrs["State"]["Pid"])


def awaited(pid: int) -> Namespace:
    """Once something listens there."""
    namespace, ends = Namespace(ROOT, pid), time.monotonic() + 30
    while not namespace.listening():
        assert time.monotonic() < ends, "nothing listens"
        time.sleep(0.05)
    return namespace


def test_the_kernel_says_of_open_ports_what_its_text_says(
    docker_engine: TestEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where we may not enter a container's network, the text is read: at a higher price, the
    same facts.
    """
    pid = pid_of(docker_engine, *serving(8080))
    asked = awaited(pid)

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(listens, "Sockets", refused)
    read = Namespace(ROOT, pid)
    assert {one.port for one in asked.listening()} == {8080}
    assert asked.listening() == read.listening()
    asked.close()
    assert asked.listening() == read.listening()  # and goes on by the text


def test_a_container_that_ended_listens_on_nothing(docker_engine: TestEngine) -> None:
    """And its network is let go with it: an open socket would keep it for ever."""
    container = docker_engine.run(docker_engine.image("ports"), serving(8080))
    container.reload()
    namespace = awaited(int(container.attrs["State"]["Pid"]))
    container.remove(force=True)
    namespace.close()
    assert namespace.listening() == set()


@contextmanager
def opened() -> Iterator[list[str]]:
    """The files that this process opens meanwhile."""
    found: list[str] = []
    counting = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:  # it can't be taken out again
        if event == "open" and counting[0]:
            found.append(str(arguments[0]))

    sys.addaudithook(hook)
    try:
        yield found
    finally:
        counting[0] = False


def test_a_look_at_known_containers_opens_nothing_of_theirs_but_the_layer(
    docker_engine: TestEngine, tmp_path: Path
) -> None:
    """A hundred containers are looked at in 12 ms of CPU, ports included; opening what the
    kernel tells of each anew took 150 ms.
    """
    image = docker_engine.image("known")
    made = [docker_engine.run(image, serving(8000 + number)) for number in range(3)]
    collecting = Collecting(tmp_path)
    for one in made:
        collecting.until(lambda one=one: collecting.of(one.id, Listen), "the open port")  # type: ignore[misc]  # mypy infers no lambda with a default
    collecting.poll()
    time.sleep(2 * PAUSE_S)  # ports and layers are due again
    with opened() as found:
        collecting.poll()
    ours = []
    for one in made:
        one.reload()
        pid, layer = one.attrs["State"]["Pid"], one.attrs["GraphDriver"]["Data"]["UpperDir"]
        ours += [path for path in found if path.startswith((f"/proc/{pid}/", layer))]
    collecting.source.close()
    assert len([path for path in ours if not path.startswith("/proc")]) == len(made)
    assert [path for path in ours if path.startswith("/proc")] == []
