"""Real containers, a real engine, a real Kafka, a real ``plimsoll respond``."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from docker.models.containers import Container

from infra.kafka import KafkaServer
from models.contract import Topics
from models.records.codec import encode
from models.records.facts import Connection, Direction, Observation
from models.records.frame import Frame
from models.records.order import Action, Order, Outcome, Status
from models.records.samples import Samples
from models.records.signed import Signed
from streams.responders.store import Step
from tests.docker.responder import DIES, HOST, PATIENCE_S, Post, until
from tests.fixtures_docker import TestEngine
from tests.fixtures_kafka import TestKafka, broker_or_skip, create_topics
from tests.responding import S, signer

LASTING_S = (4, 8, 16, 32, 64)
"""How long an order may last where its end is waited for: the first that this machine keeps up
with is taken.
"""
LONGEST_S = 120.0
SUBNETS = ("10.97.11.0/24", "10.97.12.0/24")


@pytest.fixture(scope="module")
def image(docker_engine: TestEngine) -> str:
    return docker_engine.image("response", files={"/run.sh": b"#!/bin/sh\nexec sleep 100000\n"})


@pytest.fixture(scope="module")
def networks(docker_engine: TestEngine) -> list[str]:
    return [
        str(docker_engine.network(f"response-{at}", subnet).name)
        for at, subnet in enumerate(SUBNETS)
    ]


@pytest.fixture
def post(kafka: TestKafka, docker_engine: TestEngine, tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path, kafka.bootstrap, kafka.topics(orders=2, outcomes=1, samples=3))
    yield made
    made.close()


def started(engine: TestEngine, image: str, network: str, *command: str, **options: Any) -> Any:
    """A running container that ends at once when it is told to."""
    given = {"network": network, "stop_signal": "SIGKILL", **options}
    return engine.run(image, list(command) or None, **given)


def connected(container: Container) -> dict[str, tuple[str, list[str]]]:
    """Network → address and aliases, without the id that the engine adds."""
    container.reload()
    short = str(container.id)[:12]
    return {
        name: (end["IPAddress"], [a for a in end["Aliases"] or [] if a != short])
        for name, end in container.attrs["NetworkSettings"]["Networks"].items()
    }


def failed(outcome: Outcome) -> list[str]:
    return [f"{check.name}: {check.detail}" for check in outcome.checks if not check.passed]


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=0.5):
            return True
    except OSError:
        return False


def test_isolation_cuts_both_ways_and_open_connections_and_release_puts_all_back(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """The promise of the whole pipeline: cut off at once, proven, and as it was afterwards."""
    far = started(
        docker_engine,
        image,
        networks[0],
        "sh",
        "-c",
        "while true; do nc -l -p 7000 >> /tmp/got; done",
    )
    talk = (
        "httpd -p 8080 -h /tmp; while true; do "
        f"while echo x; do usleep 20000; done | nc {connected(far)[networks[0]][0]} 7000; "
        "usleep 50000; done"  # the far end may not listen yet
    )
    victim = started(docker_engine, image, networks[0], "sh", "-c", talk)
    docker_engine.client.networks.get(networks[1]).connect(
        victim, aliases=["db", "store"], ipv4_address="10.97.12.77"
    )
    before, address = connected(victim), connected(victim)[networks[0]][0]
    until(lambda: answers(address, 8080), lambda: "the victim serves")
    until(lambda: received(far), lambda: "the victim sends")

    one = post.order(str(victim.id))
    with post.running():
        post.send(one)
        done = post.outcome(one.uid)
        assert (done.action, done.verified, failed(done)) == (Action.ISOLATE, True, [])
        assert {"flows", "processes", "inspect", "counters"} <= {s.kind for s in done.submissions}
        flows = next(s for s in done.submissions if s.kind == "flows")
        assert b":7000" in (flows.content or b""), "the open connection is in evidence"

        victim.reload()
        assert victim.status == "running"
        assert not answers(address, 8080)
        silent = received(far)
        assert victim.exec_run(["nc", "-w", "1", "10.97.11.1", "22"]).exit_code != 0
        assert received(far) == silent, "bytes still arrive"

        post.release(one)
    assert connected(victim) == before
    until(lambda: answers(address, 8080), lambda: "it is reached again")


def received(far: Container) -> int:
    said = far.exec_run(["wc", "-c", "/tmp/got"]).output
    assert isinstance(said, bytes)
    return int(said.split()[0])


@pytest.mark.parametrize(
    ("moment", "step"),
    [
        ("after", Step.RECEIVED), ("after", Step.WITNESSED), ("after", Step.PREPARED),
        ("before", Step.ACTED), ("before", Step.TOLD), ("after", Step.TOLD),
    ],
)  # fmt: skip  # pairs in lines
def test_a_kill_at_any_step_is_finished_exactly_once_after_the_restart(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str], moment: str, step: Step
) -> None:
    """kill -9 between two steps must neither lose an isolation nor forget what was there."""
    victim = started(docker_engine, image, networks[0])
    before, one = connected(victim), post.order(str(victim.id))
    post.send(one)
    with post.running((*DIES, moment, step.value)) as process:
        assert process.wait(PATIENCE_S) == -9

    with post.running():
        done = post.outcome(one.uid)
        until(lambda: len(post.outcomes(one.uid)) > 1, lambda: "the slow evidence is told")
        assert (done.verified, failed(done)) == (True, [])
        assert connected(victim) == {}
        post.release(one)
    told = [out.uid for out in post.outcomes(one.uid) if out.status is Status.DONE]
    assert len(set(told)) == 2, "the isolation and its slow evidence, nothing else"
    assert connected(victim) == before


def test_time_runs_out_while_the_responder_is_down_and_kafka_is_gone(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """After a reboot nobody may be there to let go: the responder does it by itself."""
    victim = started(docker_engine, image, networks[0])
    before = connected(victim)
    one = left_in_force(post, str(victim.id))
    assert connected(victim) == {}

    post.bootstrap, real = "127.0.0.1:1", post.bootstrap
    with post.running():
        until(lambda: connected(victim) == before, lambda: f"released\n{post.log}", LONGEST_S)
    post.bootstrap = real
    with post.running():
        released = post.outcome(one.uid, Status.RELEASED)
    assert "its time ran out" in released.detail


def left_in_force(post: Post, subject: str) -> Order:
    """An order that was carried out by a responder that ended before the order did. A slow
    machine gets more time for it.
    """
    for lasts_s in LASTING_S:
        one = post.order(subject, until_ns=time.time_ns() + lasts_s * S)
        with post.running():
            post.send(one)
            until(lambda: post.outcomes(one.uid), lambda: post.log)  # noqa: B023  # called at once
        if post.case(one).step in (Step.TOLD, Step.HELD):
            return one
    pytest.fail(f"this machine takes over a minute to isolate one container: {post.log}")


def test_what_is_forged_replayed_late_or_for_others_is_refused_with_a_trace(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """The orders topic is a remote control: each message is suspect until it is proven."""
    victim = started(docker_engine, image, networks[0])
    before, subject, now_ns = connected(victim), str(victim.id), time.time_ns()
    word = post.signer.sign(encode(post.order(subject)))
    swapped = Signed(word.key, word.signature, encode(post.order(subject)))
    stranger = signer().sign(encode(post.order(subject)))
    late = post.order(subject, deadline_ns=now_ns - S)
    with post.running():
        post.send_bytes(b"no envelope at all")
        post.send_bytes(encode(swapped))
        post.send_bytes(encode(stranger))
        post.send(late)
        post.send(post.order(subject, scope="staging"))
        post.send(post.order(subject, host="another"))
        post.send(post.order(subject, host="another"), key="another")
        post.send(post.order("host/machine"))
        until(lambda: len(post.outcomes()) >= 6, lambda: post.log)
        assert connected(victim) == before

        again = post.order(subject, Action.ANNOTATE)
        post.send(again)
        post.outcome(again.uid)
        post.send(again)
        until(lambda: "replayed" in post.log, lambda: post.log)
        until(lambda: len(refusals(post)) >= 7, lambda: str(post.said))
    reasons = [detail.split(":")[0] for detail in refusals(post).values()]
    assert sorted(reasons) == sorted(
        ["forged", "forged", "late", "other-scope", "other-host", "unsupported", "replayed"]
    )
    for reason in ("malformed", *reasons):
        assert f'"reason": "{reason}"' in post.log, "each leaves a line that names it"
    letters = sorted((one.fault, one.rejected_by) for one in post.letters(4))
    assert letters == [
        ("misplaced", "respond"), ("undecodable", "respond"), ("untrusted", "respond"),
        ("untrusted", "respond"),
    ]  # fmt: skip  # a fault each
    # A refusal of what is not genuine never speaks in a genuine order's name.
    assert [out.status for out in post.outcomes(again.uid)] == [Status.DONE, Status.DONE]
    assert refusals(post)[late.uid].startswith("late")


def refusals(post: Post) -> dict[str, str]:
    return {out.order: out.detail for out in post.outcomes() if out.status is Status.REFUSED}


def test_a_shared_network_is_never_cut_for_one(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """A sidecar's sibling is innocent: the one subject is paused, or nobody is touched."""
    main = started(docker_engine, image, networks[0])
    side = docker_engine.run(image, network_mode=f"container:{main.id}", stop_signal="SIGKILL")
    on_host = docker_engine.run(image, network_mode="host", stop_signal="SIGKILL")
    before = connected(main)
    with post.running():
        for subject in (main, side, on_host):
            plain = post.order(str(subject.id))
            post.send(plain)
            refused = post.outcome(plain.uid, Status.REFUSED)
            assert "isolate:" in refused.detail
            ladder = post.order(str(subject.id), ladder=(Action.ISOLATE, Action.PAUSE))
            post.send(ladder)
            done = post.outcome(ladder.uid)
            assert (done.action, done.verified, failed(done)) == (Action.PAUSE, True, [])
            assert "isolate:" in done.detail
            subject.reload()
            assert subject.status == "paused"
            subject.unpause()
    assert connected(main) == before


def test_a_redeployment_keeps_definition_and_old_container(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """A leak is answered by a fresh container, with the old one kept for whoever asks why."""
    old = started(
        docker_engine, image, networks[0], "sh", "-c", "touch /tmp/dirt; exec sleep 100000",
        name="leaky", environment={"SECRET": "hunter2"}, mem_limit="64m",
        labels={"com.docker.compose.service": "leaky"}, restart_policy={"Name": "always"},
    )  # fmt: skip  # one line an argument reads worse
    one = post.order(str(old.id), Action.REDEPLOY, until_ns=0)
    with post.running():
        post.send(one)
        done = post.outcome(one.uid)
        docker_engine.adopt(done.replacement)
        assert (done.verified, failed(done)) == (True, [])
        new = docker_engine.client.containers.get(done.replacement)
        assert new.name == f"{docker_engine.prefix}-leaky"
        assert new.exec_run(["ls", "/root"]).exit_code == 0
        old.reload()
        assert (old.status, ".kept-" in str(old.name)) == ("exited", True)
        assert new.labels["com.docker.compose.service"] == "leaky"
        assert new.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
        post.release(one)
        later = until(
            lambda: [s for out in post.outcomes(one.uid) for s in out.submissions],
            lambda: "evidence",
        )
    old.reload()
    new.reload()
    assert (old.status, new.status) == ("exited", "running")
    assert ".kept-" not in str(old.name)
    contents = b"".join(s.content or b"" for s in later)
    assert b"SECRET=***" in contents
    assert b"hunter2" not in contents


def test_a_container_that_vanishes_on_the_way_fails_with_its_evidence(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """An orchestrator may be faster than we are; that is no isolation, and no mystery."""
    victim = started(docker_engine, image, networks[0])
    one = post.order(str(victim.id))
    post.send(one)
    with post.running((*DIES, "after", Step.PREPARED.value)) as process:
        assert process.wait(PATIENCE_S) == -9
    victim.remove(force=True)
    with post.running():
        gone = post.outcome(one.uid, Status.FAILED)
    assert "vanished" in gone.detail
    assert {"flows", "processes"} <= {s.kind for s in gone.submissions}


def test_the_last_minutes_of_telemetry_become_evidence(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """Kafka keeps telemetry for days; an auditor asks after years what came before the act."""
    victim = started(docker_engine, image, networks[0])
    subject = str(victim.id)
    for frame in (frame_of(subject, 3, 4e6), frame_of(subject, 2, 5e6), frame_of("b" * 64, 1, 6e6)):
        post.send_bytes(encode(frame), topic=post.topics.samples)
    post.send_bytes(b"no frame", topic=post.topics.samples)
    post.send_bytes(encode(frame_of(subject, 1, 7e6, host="other")), topic=post.topics.samples)

    one = post.order(subject)
    with post.running():
        post.send(one)
        post.outcome(one.uid)
        until(lambda: len(post.outcomes(one.uid)) > 1, lambda: "the slow evidence is told")
    (piece,) = [
        s for out in post.outcomes(one.uid) for s in out.submissions if s.kind == "telemetry"
    ]
    told = orjson.loads(piece.content or b"")
    assert [row["network_transmit_bytes_per_s"] for row in told["samples"]] == [4e6, 5e6]
    assert [one["peer"] for one in told["observations"]] == ["198.51.100.9"] * 2
    assert piece.location, "and in the store, whatever its size"


def frame_of(subject: str, ago_s: int, sent: float, host: str = HOST) -> Frame:
    """One sample of one container, as its collector writes it."""
    at_ns = time.time_ns() - ago_s * S
    table = Samples(
        ("network_transmit_bytes_per_s", "cpu_cores"), (subject,), np.zeros(1, np.int64),
        np.array([at_ns]), np.array([[sent], [np.nan]]),
    )  # fmt: skip  # as the fields lie
    talk = Observation(subject, at_ns, Connection(Direction.EGRESS, "198.51.100.9", 443, "tcp"))
    return Frame("default", host, "default", "collector", 9 - ago_s, at_ns, 1.0, table, (talk,))


@contextmanager
def small_disk_at(path: Path, size: str = "64k") -> Iterator[None]:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_evidence_store_is_said_and_holds_nothing_up(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """Else an attacker would write files until nothing can be done about him."""
    victim = started(docker_engine, image, networks[0])
    one = post.order(str(victim.id))
    with small_disk_at(post.directory / "data" / "evidence"), post.running():
        post.send(one)
        done = post.outcome(one.uid)
        until(lambda: len(post.outcomes(one.uid)) > 1, lambda: "the slow evidence is told")
    assert (done.verified, failed(done)) == (True, [])
    assert connected(victim) == {}
    pieces = [piece for out in post.outcomes(one.uid) for piece in out.submissions]
    assert all("not in the evidence store" in piece.detail for piece in pieces)
    assert {"flows", "processes"} <= {piece.kind for piece in pieces if piece.content}
    assert '"event": "evidence lost"' in post.log
    assert "make room in the evidence store" in post.log


def test_nothing_is_done_that_cannot_be_written_and_nothing_is_lost(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """An isolation that nobody remembers would never end: rather none, and a clear line."""
    victim = started(docker_engine, image, networks[0])
    before, one = connected(victim), post.order(str(victim.id))
    data = post.directory / "data"
    with small_disk_at(data, "600k"):
        with post.running() as process:
            until(lambda: "orders followed" in post.log, lambda: post.log)
            fill(data / "filling")
            post.send(one)
            assert process.wait(PATIENCE_S) == 1
        assert connected(victim) == before
        last = post.log.strip().splitlines()[-1]
        assert last.startswith("plimsoll: StoreFailed: responder store")
        assert "disk is full; make room" in last

        (data / "filling").unlink()
        with post.running():
            done = post.outcome(one.uid)
            assert (done.verified, failed(done)) == (True, [])
            post.release(one)


def fill(path: Path) -> None:
    """Write until nothing more fits on the disk."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            continue


def test_a_published_port_that_comes_back_under_another_number_is_said(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """Docker chooses such a number at each connection: whoever knew the old one must be told."""
    victim = started(
        docker_engine, image, networks[0], "httpd", "-f", "-p", "8080",
        ports={"8080/tcp": None, "8081/tcp": 39481},
    )  # fmt: skip  # one call
    victim.reload()
    (was, *_) = victim.ports["8080/tcp"]
    until(lambda: answers("127.0.0.1", int(was["HostPort"])), lambda: "it is reached")
    one = post.order(str(victim.id))
    with post.running():
        post.send(one)
        post.outcome(one.uid)
        assert not answers("127.0.0.1", int(was["HostPort"]))
        post.release(one)
        released = post.outcome(one.uid, Status.RELEASED)
    victim.reload()
    (now, *_) = victim.ports["8080/tcp"]
    assert victim.ports["8081/tcp"][0]["HostPort"] == "39481"
    if now["HostPort"] != was["HostPort"]:
        assert f"8080/tcp was published at 0.0.0.0:{was['HostPort']}" in released.detail
    assert "8081/tcp" not in released.detail


class Gate:
    """A socket before the engine's own: closed, it accepts and never answers."""

    def __init__(self, path: Path) -> None:
        self.path, self.open = path, threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(64)
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if not self.open.is_set():
                self._held.append(near)
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect("/var/run/docker.sock")
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._held:
            one.close()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with one:
        while data := _read(one):
            try:
                other.sendall(data)
            except OSError:
                break
    try:
        other.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _read(one: socket.socket) -> bytes:
    try:
        return one.recv(65536)
    except OSError:
        return b""


@contextmanager
def gate_at(path: Path) -> Iterator[Gate]:
    gate = Gate(path)
    yield gate
    gate.close()


def test_an_engine_that_stops_answering_is_asked_again_and_said(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """dockerd hangs or restarts now and then: the order waits for it, within its deadline."""
    victim = started(docker_engine, image, networks[0])
    with gate_at(post.directory / "docker.sock") as gate:
        post.docker_host, post.timeout_s = f"unix://{gate.path}", 0.5
        with post.running():
            lost = given_up(post, str(victim.id))
            assert "did not answer" in lost.detail
            assert "container runtime silent, asking again" in post.log

            one = post.order(str(victim.id))
            post.send(one)
            until(lambda: post.log.count(one.uid) >= 2, lambda: post.log)
            gate.open.set()
            done = post.outcome(one.uid)
    assert (done.verified, failed(done)) == (True, [])
    assert connected(victim) == {}


def test_an_engine_that_falls_silent_in_the_middle_is_waited_for(
    post: Post, docker_engine: TestEngine, image: str, networks: list[str]
) -> None:
    """What was begun is worth finishing, and must not be begun anew from what is half done."""
    victim = started(docker_engine, image, networks[0])
    before, one = connected(victim), post.order(str(victim.id))
    post.send(one)
    with post.running((*DIES, "after", Step.PREPARED.value)) as process:
        assert process.wait(PATIENCE_S) == -9
    with gate_at(post.directory / "docker.sock") as gate:
        post.docker_host, post.timeout_s = f"unix://{gate.path}", 0.5
        with post.running():
            until(lambda: "container runtime silent, asking again" in post.log, lambda: post.log)
            gate.open.set()
            done = post.outcome(one.uid)
            assert (done.verified, failed(done)) == (True, [])
            assert connected(victim) == {}
            post.release(one)
    assert connected(victim) == before


def given_up(post: Post, subject: str) -> Outcome:
    """What became of an order whose deadline passed in silence. It has to arrive in time for
    that, and how long that takes depends on the machine: a late one is sent again, with more.
    """
    for allowed_s in LASTING_S:
        short = post.order(subject, deadline_ns=time.time_ns() + allowed_s * S)
        post.send(short)
        told = until(lambda: post.outcomes(short.uid), lambda: post.log, allowed_s + 60.0)  # noqa: B023  # called at once
        if told[0].status is Status.FAILED:
            return told[0]
    pytest.fail(f"this machine takes over a minute to read one record: {post.log}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kafka_may_be_away_while_an_isolation_ends(
    docker_engine: TestEngine, image: str, networks: list[str], tmp_path: Path
) -> None:
    """Outcomes wait in the store, time runs on, and nothing is told twice or never. Away for
    so long that the producer has given up on what it was told to send.
    """
    with broker_or_skip(tmp_path / "broker") as server:
        topics = Topics("away.")
        create_topics(server.bootstrap, {topics.orders: 1, topics.outcomes: 1})
        post = Post(tmp_path, server.bootstrap, topics)
        victim = started(docker_engine, image, networks[0])
        before = connected(victim)
        with post.running():
            released = ended_without_kafka(
                post, server, str(victim.id), lambda: connected(victim) == before
            )
            next_one = post.order(str(victim.id))
            post.send(next_one)
            post.outcome(next_one.uid)
        post.close()
    assert "its time ran out" in released.detail
    assert [out.uid for out in post.said].count(released.uid) == 1


def ended_without_kafka(
    post: Post, server: KafkaServer, subject: str, is_back: Callable[[], bool]
) -> Outcome:
    """How an order was told to have ended that ended while Kafka was away. A slow machine gets
    more time to have it away by then.
    """
    for lasts_s in LASTING_S:
        one = post.order(subject, until_ns=time.time_ns() + lasts_s * S)
        post.send(one)
        until(lambda: post.outcomes(one.uid), lambda: post.log)  # noqa: B023  # called at once
        server.stop()
        in_time = not is_back()
        if in_time:
            until(is_back, lambda: f"released\n{post.log}", LONGEST_S)
            until(lambda: "outcome waits in the store" in post.log, lambda: post.log)
            assert "kafka trouble" in post.log
        server.start()
        if in_time:
            return post.outcome(one.uid, Status.RELEASED)
    pytest.fail(f"this machine takes over a minute to isolate one container: {post.log}")


def test_the_process_needs_neither_faust_nor_scikit_learn() -> None:
    """It sits on every host beside a Docker socket: what it does not load cannot fail it."""
    code = (
        "import sys, streams.commands.respond, streams.responders.runner, "
        "streams.responders.docker; "
        "assert not {'faust', 'sklearn'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
