"""The collector on real containers that do real things."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from models.records.facts import (
    BootIdentity,
    Coverage,
    Exec,
    FileChange,
    Lifecycle,
    Listen,
    Program,
)
from models.records.inventory import State
from producers.settings import load
from producers.sources.docker.source import DockerSource
from producers.sources.docker.stats import reading_of
from tests.docker.collecting import Collecting, seen, sh
from tests.docker.passage import Passage
from tests.fixtures_docker import TestEngine


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
    """A collector runs for months; one handle a container would end it. The engine's client
    keeps a connection for each of the last 25 addresses: their number settles.
    """
    sockets: list[int] = []
    while len(sockets) < 2 or sockets[-1] > sockets[-2]:
        assert len(sockets) < 12, f"connections come and none goes: {sockets}"
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
