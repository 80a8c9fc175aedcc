"""Counters of cgroups, version 1 and 2, and the rates that two readings make.

The files are as kernels write them; the machine that runs the tests has one version only.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from producers.sources.docker.cgroups import Cgroups
from producers.sources.docker.readings import FEATURES, Reading, row
from producers.sources.docker.stats import reading_of

CONTAINER = "a" * 64
NS = 10**9
V1 = {
    "cpuacct/cpuacct.usage": "7000000000\n",
    "cpu/cpu.stat": "nr_periods 100\nnr_throttled 25\nthrottled_time 5\n",
    "memory/memory.usage_in_bytes": "50000000\n",
    "memory/memory.stat": "cache 1\ntotal_cache 30000000\ntotal_rss 9\ntotal_shmem 5000000\n",
    "blkio/blkio.throttle.io_service_bytes_recursive":
        "8:0 Read 100\n8:0 Write 10\n8:0 Total 110\n8:16 Read 1000\n8:16 Write 1\nTotal 1111\n",
    "pids/pids.current": "6\n",
}  # fmt: skip  # a table
V2 = {
    "cpu.stat": "usage_usec 7000000\nuser_usec 1\nsystem_usec 2\nnr_periods 100\n"
                "nr_throttled 25\nthrottled_usec 3\n",
    "memory.current": "50000000\n",
    "memory.stat": "anon 20000000\nfile 30000000\nfile_mapped 1\nshmem 5000000\n"
                   "slab_reclaimable 2000000\n",
    "io.stat": "8:0 rbytes=100 wbytes=10 rios=1 wios=1 dbytes=0 dios=0\n"
               "8:16 rbytes=1000 wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n",
    "pids.current": "6\n",
}  # fmt: skip  # a table


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def host(root: Path, version: int) -> Path:
    """A host's files with one container of process 42; returns where a counter lies."""
    base = root / "sys/fs/cgroup"
    place = f"docker/{CONTAINER}" if version == 1 else f"system.slice/docker-{CONTAINER}.scope"
    if version == 1:
        parts = {name.replace("/", f"/{place}/", 1): text for name, text in V1.items()}
        write(base, parts)
        told = "4:memory:/{0}\n3:cpu,cpuacct:/{0}\n2:blkio:/{0}\n1:pids:/{0}\n0::/x\n"
    else:
        write(base, {"cgroup.controllers": "cpu io memory pids\n"})
        write(base / place, V2)
        told = "0::/{0}\n"
    write(root, {"proc/42/cgroup": told.format(place)})
    return base


def reading(root: Path, pid: int = 42) -> Reading:
    files = Cgroups(root).files_of(pid, CONTAINER)
    assert files is not None
    found = files.read(NS)
    files.close()
    files.close()
    return found


@pytest.mark.parametrize(("version", "memory"), [(1, 25e6), (2, 23e6)])
def test_both_versions_tell_the_same(tmp_path: Path, version: int, memory: float) -> None:
    """Hosts of one fleet differ; the memory in use is without what can be given back."""
    host(tmp_path, version)
    found = reading(tmp_path)
    assert (found.cpu_ns, found.periods, found.throttled_periods) == (7e9, 100, 25)
    assert (found.read_bytes, found.write_bytes, found.tasks) == (1100, 11, 6)
    assert found.memory_bytes == memory


@pytest.mark.parametrize("version", [1, 2])
def test_from_within_a_namespace_the_names_that_engines_give_are_tried(
    tmp_path: Path, version: int
) -> None:
    """A collector in a container sees its own cgroup as the root."""
    host(tmp_path, version)
    write(tmp_path, {"proc/42/cgroup": "0::/../../x\n"})
    assert reading(tmp_path).tasks == 6


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_missing_is_not_a_number(tmp_path: Path, version: int) -> None:
    """Never 0: a container that can't be measured must not look idle."""
    base = host(tmp_path, version)
    for counter in base.rglob("memory.*"):
        counter.unlink()
    found = reading(tmp_path)
    assert math.isnan(found.memory_bytes)
    assert found.tasks == 6


def test_a_process_that_is_gone_has_no_files(tmp_path: Path) -> None:
    """It may end between being told of and being looked at."""
    host(tmp_path, 2)
    assert Cgroups(tmp_path).files_of(43, CONTAINER) is None


def rates(now: Reading, before: Reading | None) -> dict[str, float]:
    return dict(zip(FEATURES, row(now, before), strict=True))


FULL = Reading(NS, *[100.0] * 11)


def test_counters_that_were_reset_are_no_rate_this_once() -> None:
    """A restart must be neither a negative rate nor a peak."""
    values = rates(Reading(2 * NS, *[40.0] * 11), FULL)
    grows = [name for name in FEATURES if name.endswith("_per_s") or name.startswith("cpu")]
    assert all(math.isnan(values[name]) for name in grows if "opened" not in name)
    assert (values["memory_working_set_bytes"], values["processes"]) == (40, 40)


@pytest.mark.parametrize("before", [None, Reading(3 * NS, *[50.0] * 11)], ids=["first", "back"])
def test_without_time_between_two_readings_there_is_no_rate(before: Reading | None) -> None:
    """The first one, and one before which the clock was set back."""
    values = rates(Reading(2 * NS, *[100.0] * 11), before)
    assert math.isnan(values["cpu_cores"])
    assert values["processes"] == 100


def test_rates_are_by_the_time_that_really_passed() -> None:
    """A collector that was late by a second has not seen twice the load."""
    late = Reading(5 * NS, *[100.0 + 8 * NS] * 11)
    assert rates(late, FULL)["cpu_cores"] == 2.0
    assert rates(late, FULL)["network_receive_bytes_per_s"] == 2 * NS


def test_an_engine_that_tells_little_is_not_taken_for_idle() -> None:
    """Podman and older engines leave parts of it out."""
    found = reading_of({"cpu_stats": {}, "memory_stats": {}}, NS)
    told = [found.cpu_ns, found.memory_bytes, found.read_bytes, found.receive_bytes, found.tasks]
    assert all(math.isnan(one) for one in told)
