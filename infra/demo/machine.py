"""What the demo needs of this machine, what it changes there, and that all of it is undone."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
from docker.errors import DockerException
from pyroute2 import IPRoute, netns

from infra.kafka import KafkaUnavailable, jars

ENGINE: Final = "unix:///var/run/docker.sock"
LABEL: Final = "plimsoll.demo"
"""On every container, network and image of a demo; its value is the run."""
ACCOUNTING: Final = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
_DOCKER_SH: Final = Path(__file__).resolve().parents[1] / "docker.sh"
_START_S: Final = 600.0


class DemoUnavailable(RuntimeError):
    """The demo can't be told here; the message says what is missing and how to get it."""


def check() -> None:
    """See that Java, Maven's jars and the rights are here; the engine is another matter.

    Raises: DemoUnavailable, which names all that is missing at once.
    """
    missing = []
    if os.geteuid() != 0:
        missing.append("root: it makes a network namespace and reads cgroups; run it with sudo")
    try:
        jars()
    except KafkaUnavailable as problem:
        missing.append(f"Apache Kafka: {problem}")
    if missing:
        raise DemoUnavailable("; ".join(missing))


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """A Docker engine; one that had to be started is stopped again.

    Raises: DemoUnavailable when there is none and none can be started.
    """
    started = not _answers()
    try:
        if started:
            _docker_sh("start")
        client = docker.DockerClient(base_url=ENGINE)
        try:
            yield client
        finally:
            client.close()
    finally:
        if started:
            _docker_sh("stop")


def _answers() -> bool:
    try:
        client = docker.DockerClient(base_url=ENGINE)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


def _docker_sh(word: str) -> None:
    done = subprocess.run(
        (str(_DOCKER_SH), word), capture_output=True, text=True, timeout=_START_S, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise DemoUnavailable(f"no Docker engine answers at {ENGINE}, and `{_DOCKER_SH} {word}` "
                              f"could not help: {said}")  # fmt: skip  # one sentence


@contextmanager
def flow_accounting() -> Iterator[None]:
    """The kernel counts the bytes of each connection; afterwards as it was before."""
    if not ACCOUNTING.exists():
        raise DemoUnavailable(
            f"{ACCOUNTING} is not there: load connection tracking (modprobe nf_conntrack)"
        )
    before = ACCOUNTING.read_text()
    ACCOUNTING.write_text("1")
    try:
        yield
    finally:
        ACCOUNTING.write_text(before)


@dataclass(frozen=True, slots=True)
class Run:
    """One telling. ``name`` is part of the name of all that it makes; ``scratch`` goes away
    with it, ``kept`` holds logs and reports for the reader.
    """

    name: str
    scratch: Path
    kept: Path


def new_run() -> Run:
    name = f"demo-{secrets.token_hex(3)}"
    kept = Path(tempfile.mkdtemp(prefix=f"plimsoll-{name}-"))
    return Run(name, kept.with_name(f"{kept.name}-scratch"), kept)


@contextmanager
def directory(path: Path) -> Iterator[None]:
    """There while it is needed."""
    path.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(path)


def worth_keeping(run: Run) -> bool:
    """Whether there is anything for the reader; where there is not, nothing is kept."""
    if any(run.kept.iterdir()):
        return True
    run.kept.rmdir()
    return False


def leftovers(client: Any, run: Run) -> list[str]:
    """All that still bears the mark of a run, by name: nothing, once it is over."""
    marked = {"label": f"{LABEL}={run.name}"}
    named = client.containers.list(all=True, filters={"name": run.name})
    found = [f"container {one.name}" for one in named]
    found += [f"network {one.name}" for one in client.networks.list(filters=marked)]
    found += [f"image {one.tags or one.id}" for one in client.images.list(all=True, filters=marked)]
    found += [f"network namespace {name}" for name in netns.listnetns() if run.name in name]
    with IPRoute() as here:
        links = [str(link.get_attr("IFLA_IFNAME")) for link in here.get_links()]
    found += [f"network interface {name}" for name in links if run.name in name]
    found += [f"process {pid}" for pid in _processes(str(run.scratch).encode())]
    return found + ([f"directory {run.scratch}"] if run.scratch.exists() else [])


def _processes(mark: bytes) -> list[str]:
    """Processes whose command or environment names the scratch directory."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal() or int(place.name) == os.getpid():
            continue
        try:
            said = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        except OSError:
            continue  # it has ended, or is none of ours
        if mark in said:
            found.append(place.name)
    return found
