"""What the demo on a real engine builds: that it acts as told, and that nothing of it stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import docker
import pytest

from infra.demo import machine
from infra.demo.containers import PARTNER, PORT, STRANGER, Actor, Troupe
from infra.demo.machine import Run
from infra.demo.remote import RemoteHosts
from infra.demo.stories import STORIES, begin

DEADLINE_S = 90.0
LEAKED_BYTES = 6_000_000


@dataclass
class Set:
    """Far end and containers of one run; ``strike`` takes all of it down."""

    client: docker.DockerClient
    run: Run
    remote: RemoteHosts
    troupe: Troupe
    accounting: str
    strike: Callable[[], None]

    def running(self, actor: Actor) -> str:
        """The commands that run in a container, one a line."""
        said = self.client.api.top(actor.subject)
        return "\n".join(process[-1] for process in said["Processes"])

    def memory_bytes(self, actor: Actor) -> int:
        """Without page cache, in the words of either version of cgroups."""
        said = self.client.api.stats(actor.subject, stream=False, one_shot=True)
        counted = said["memory_stats"]["stats"]
        return int(counted.get("total_rss", counted.get("anon", 0)))

    def all_have_lived_on(self) -> None:
        heard = self.remote.received_bytes(PARTNER)
        await_effect(lambda: self.remote.received_bytes(PARTNER) > heard + 100_000)


@pytest.fixture(scope="module")
def scene(docker_client: docker.DockerClient) -> Iterator[Set]:
    run, accounting = machine.new_run(), machine.ACCOUNTING.read_text()
    with ExitStack() as undo:
        undo.callback(run.kept.rmdir)
        undo.enter_context(machine.directory(run.scratch))
        undo.enter_context(machine.flow_accounting())
        remote = undo.enter_context(RemoteHosts(run.name, (PARTNER, STRANGER), (PORT,)))
        troupe = undo.enter_context(Troupe(docker_client, run.name, remote, run.scratch / "stage"))
        yield Set(docker_client, run, remote, troupe, accounting, undo.close)


def test_containers_follow_their_directions(scene: Set) -> None:
    """A story that does not happen would be counted as missed by the detection."""
    scene.all_have_lived_on()
    assert scene.remote.received_bytes(STRANGER) == 0, "it is to be a stranger"

    for story in STORIES:
        begin(story, scene.troupe)

    dropping, leaking = scene.troupe.actor("web", 2), scene.troupe.actor("notifier", 3)
    await_effect(lambda: scene.remote.received_bytes(STRANGER) > 2_000_000)
    await_effect(lambda: "/tmp/busybox-update" in scene.running(dropping))
    await_effect(lambda: scene.memory_bytes(leaking) > LEAKED_BYTES)
    assert "busybox-update" not in scene.running(scene.troupe.actor("web", 1))


def test_who_is_born_after_a_direction_passes_it_over(scene: Set) -> None:
    """A container that takes the place of one that leaked would leak at once, and be replaced
    for ever.
    """
    actor = scene.troupe.actor("notifier", 1)
    scene.troupe.direct(actor, "leak")
    await_effect(lambda: scene.memory_bytes(actor) > LEAKED_BYTES)

    scene.client.api.restart(actor.subject, timeout=0)

    scene.all_have_lived_on()
    assert scene.memory_bytes(actor) < LEAKED_BYTES


def test_a_container_that_somebody_ended_is_missed(scene: Set) -> None:
    """An engine that is restarted ends them all: without them there is nothing to tell."""
    actor = scene.troupe.actor("search", 3)
    scene.client.api.kill(actor.subject)
    assert scene.troupe.absent() == [actor.name]
    scene.client.api.start(actor.subject)
    assert scene.troupe.absent() == []


def test_nothing_of_it_stays(scene: Set) -> None:
    """What is left on the reader's machine is the worst thing that a demo can do."""
    assert machine.leftovers(scene.client, scene.run)

    scene.strike()

    assert machine.leftovers(scene.client, scene.run) == []
    assert machine.ACCOUNTING.read_text() == scene.accounting


def await_effect(effect: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not effect():
        assert time.monotonic() < deadline, "the effect did not come in time"
        time.sleep(0.1)
