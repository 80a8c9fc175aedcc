"""What runs in a container, whose it is, and whether the image brought it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from docker.models.containers import Container

from infra.images import busybox
from models.records.facts import (
    Change,
    FileChange,
    Program,
)
from producers.sources.docker.identity import Known
from producers.sources.docker.programs import ENGINE, RUNTIME_NS, STRANGER_NS, Programs
from producers.sources.docker.watch import running
from tests.docker.collecting import Collecting, seen, sh
from tests.fixtures_docker import TestEngine

DISGUISED = "/tmp/runc/busybox"
DISGUISE = "echo 'runc:[2:INIT]' >/proc/self/comm; mkfifo /tmp/ready; read until </tmp/ready"


def known_to(collecting: Collecting, container: Container) -> Known:
    """What the collector knows of a container that runs."""
    watch = collecting.source._watch
    return collecting.until(
        lambda: running(watch.containers()).get(str(container.id)), "that it runs"
    )


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
    known = known_to(collecting, container)
    now_ns = time.time_ns()

    early = [told.pid for _, told in programs.look(now_ns, {})]
    late = [(whose, told.pid) for whose, told in programs.look(now_ns + 1, {known.subject: known})]

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


def test_the_runtime_on_its_way_into_a_container_is_none_of_its_programs(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """``runc`` stands twenty milliseconds in the container's cgroup before it becomes what
    was asked for; taken for a dropped program it would prove a compromise.
    """
    container = docker_engine.run(image)
    known = known_to(collecting, container)
    ended, told = threading.Event(), set()

    def enter() -> None:
        for _ in range(10):
            container.exec_run(["/bin/busybox", "true"])
        ended.set()

    thread = threading.Thread(target=enter)
    thread.start()
    while not ended.is_set():
        first = Programs(Path("/"), "host/here", 0)  # a look that finds it there already
        for whose, program in first.look(time.time_ns(), {known.subject: known}):
            told.add((whose == known.subject, program.executable))
    thread.join()

    assert {path for its, path in told if its} == {"/bin/busybox"}
    assert (False, "/") not in told


def test_a_first_process_was_started_by_nobody_also_before_the_engine_says_so(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """A container that was restarted has another first process; looked at a moment before the
    engine tells its number, it would have come from outside.
    """
    container = docker_engine.run(image)
    known = known_to(collecting, container)
    earlier = replace(known, pid=known.pid + 1)

    looked = Programs(Path("/"), "host/here", 0).look(time.time_ns(), {known.subject: earlier})
    parents = {one.pid: one.parent for whose, one in looked if whose == known.subject}

    assert parents[known.pid] == ""


def test_what_the_engine_starts_on_the_host_for_a_container_is_no_news(
    docker_engine: TestEngine, image: str
) -> None:
    """Seen now and then for the first time, it would call the host suspect at each deploy."""
    ended, told, seen = threading.Event(), set(), set()

    def come_and_go() -> None:
        for _ in range(3):
            docker_engine.run(image).remove(force=True)
        ended.set()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    while not ended.is_set():
        first = Programs(Path("/"), "host/here", 0)
        told |= {(one.executable, one.parent) for _, one in first.look(time.time_ns(), {})}
        seen |= {one.executable.rpartition("/")[2] for one in first._processes.values()}
    thread.join()

    assert {"runc", "dockerd"} <= seen
    assert not [
        (program, parent) for program, parent in told
        if {program.rpartition("/")[2], parent.rpartition("/")[2]} <= ENGINE
    ]  # fmt: skip  # a condition a line
    assert any(program.endswith("dockerd") for program, _ in told), "who started it is told"


@pytest.mark.parametrize("started", ["from outside", "by its own"])
def test_a_program_that_calls_itself_the_runtime_is_told(
    docker_engine: TestEngine, image: str, collecting: Collecting, started: str
) -> None:
    """From outside it might be, for a while; what a container starts itself never is."""
    container = docker_engine.run(image)
    known = known_to(collecting, container)
    sh(container, f"mkdir /tmp/runc; cp /bin/busybox {DISGUISED}")
    command = [DISGUISED, "sh", "-c", DISGUISE]
    if started == "by its own":
        command = ["/bin/sh", "-c", '"$@"; true', "its own", *command]
    container.exec_run(command, detach=True)
    sh(container, "while [ ! -e /tmp/ready ]; do usleep 10000; done")
    programs, now_ns = Programs(Path("/"), "host/here", 0), time.time_ns()

    def told(at_ns: int) -> list[bool | None]:
        looked = programs.look(at_ns, {known.subject: known})
        return [one.in_image for _, one in looked if one.executable == DISGUISED]

    assert told(now_ns) == ([False] if started == "by its own" else [])
    assert told(now_ns + RUNTIME_NS) == ([] if started == "by its own" else [False])


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


def told_of(looked: Iterable[tuple[str, Program]], pid: int) -> list[tuple[str, bool | None]]:
    return [(one.executable, one.in_image) for _, one in looked if one.pid == pid]


@pytest.mark.parametrize("where", ["on a volume", "in the image"])
def test_a_program_that_is_replaced_while_it_runs_is_what_it_was(
    docker_engine: TestEngine, image: str, collecting: Collecting, tmp_path: Path, where: str
) -> None:
    """Releases and upgrades put a file in the place of one that runs, which the kernel then calls
    deleted.
    """
    path = "/opt/app/busybox" if where == "on a volume" else "/bin/busybox"
    (tmp_path / "busybox").write_bytes(busybox())
    (tmp_path / "busybox").chmod(0o755)
    container = docker_engine.run(
        image, [path, "sleep", "1000"], volumes={str(tmp_path): {"bind": "/opt/app", "mode": "rw"}}
    )
    known = known_to(collecting, container)
    programs = Programs(Path("/"), "host/here", 1 << 26)
    programs_known = {known.subject: known}
    now_ns, in_image = time.time_ns(), None if where == "on a volume" else True
    assert told_of(programs.look(now_ns, programs_known), known.pid) == [(path, in_image)]

    sh(container, f"cp {path} {path}.new; mv {path}.new {path}")

    assert str(Path(f"/proc/{known.pid}/exe").readlink()) == f"{path} (deleted)"
    assert told_of(programs.look(now_ns + 1, programs_known), known.pid) == []
    anew = Programs(Path("/"), "host/here", 1 << 26)
    assert told_of(anew.look(now_ns, programs_known), known.pid) == [(path, in_image)]


@pytest.mark.parametrize("dropped", [True, False])
def test_a_program_that_ends_while_it_is_looked_at_is_not_told_of_the_host(
    docker_engine: TestEngine, image: str, collecting: Collecting, dropped: bool
) -> None:
    """The kernel counts who has ended among the host's, and forgets who started it. A proof is
    told all the same.
    """
    path = "/tmp/x/busybox" if dropped else "/bin/busybox"
    life = f"mkdir /tmp/x; cp /bin/busybox /tmp/x; {path} sleep 1000; sleep 1000"
    container = docker_engine.run(image, ["/bin/sh", "-c", life])
    known = known_to(collecting, container)

    def brief() -> int | None:
        rows = container.top()["Processes"]
        return next((int(row[1]) for row in rows if row[-1] == f"{path} sleep 1000"), None)

    victim, ends = collecting.until(brief, "the program"), [0]

    class Late(Programs):
        def _parent(self, pid: int, subject: str, container: Known | None) -> str:
            while pid == victim and self._executable(pid):
                ends[0] += 1
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)  # the kernel's to end it
            return super()._parent(pid, subject, container)

    looked = Late(Path("/"), "host/here", 0).look(time.time_ns(), {known.subject: known})
    told = [(whose, one.in_image) for whose, one in looked if one.pid == victim]

    assert ends[0]
    assert told == ([(known.subject, False)] if dropped else [])


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
