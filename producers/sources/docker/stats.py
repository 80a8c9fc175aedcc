"""The same counters from the engine's stats, where cgroup files can't be read.

One request a container, and each waits for the engine's own next second: so they are made
by threads, each container as often as the engine answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import requests
import structlog
from docker.errors import DockerException

from producers.sources.base import Clock
from producers.sources.docker.readings import NAN, Reading

log = structlog.get_logger("collect")

AT_ONCE: Final = 16
"""Requests at a time: an engine answers each only when its own next second begins."""

Ask = Callable[[str], dict[str, Any]]


def reading_of(stats: dict[str, Any], at_ns: int) -> Reading:
    """Docker's and Podman's stats payload as a reading; what is absent is NaN."""
    cpu = stats.get("cpu_stats") or {}
    throttling = cpu.get("throttling_data") or {}
    networks = stats.get("networks")
    reading = Reading(
        at_ns,
        cpu_ns=_value(cpu.get("cpu_usage") or {}, "total_usage"),
        periods=_value(throttling, "periods"),
        throttled_periods=_value(throttling, "throttled_periods"),
        memory_bytes=_memory(stats.get("memory_stats") or {}),
        read_bytes=_io(stats, "read"),
        write_bytes=_io(stats, "write"),
        tasks=_value(stats.get("pids_stats") or {}, "current"),
    )
    if networks:
        sums = [sum(_value(one, name) for one in networks.values()) for name in _NETWORK]
        reading.receive_bytes, reading.receive_packets = sums[0], sums[1]
        reading.transmit_bytes, reading.transmit_packets = sums[2], sums[3]
    return reading


_NETWORK: Final = ("rx_bytes", "rx_packets", "tx_bytes", "tx_packets")


def _memory(stats: dict[str, Any]) -> float:
    """Usage without page cache: version 1 says ``total_cache``, version 2 ``file``."""
    parts = stats.get("stats") or {}
    if "total_cache" in parts:
        cache = float(parts["total_cache"] - parts.get("total_shmem", 0))
    elif "file" in parts:
        slab = parts.get("slab_reclaimable", 0)
        cache = float(parts["file"] - parts.get("shmem", 0) + slab)
    else:
        cache = 0.0
    return max(_value(stats, "usage") - cache, 0.0)


def _io(stats: dict[str, Any], way: str) -> float:
    devices = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive")
    if devices is None:
        return 0.0 if "blkio_stats" in stats else NAN
    return float(sum(one["value"] for one in devices if one["op"].lower() == way))


def _value(found: dict[str, Any], name: str) -> float:
    value = found.get(name)
    return NAN if value is None else float(value)


class StatsThread:
    """Asks for every wanted container in turn; ``latest`` is what was last told."""

    def __init__(self, ask: Ask, clock: Clock, period_s: float) -> None:
        self._ask, self._clock, self._period_s = ask, clock, period_s
        self._wanted: tuple[str, ...] = ()
        self._latest: dict[str, Reading] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def latest(self, wanted: Iterable[str]) -> dict[str, Reading]:
        """What is known by now of those; the thread starts with the first that is wanted."""
        self._wanted = tuple(wanted)
        if self._wanted and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="docker-stats", daemon=True)
            self._thread.start()
        return {one: self._latest[one] for one in self._wanted if one in self._latest}

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="docker-stats") as pool:
            while not self._stop.wait(self._period_s):
                wanted = self._wanted
                for _ in pool.map(self._read, wanted):
                    if self._stop.is_set():
                        pool.shutdown(cancel_futures=True)
                        return
                self._latest = {c: r for c, r in self._latest.items() if c in wanted}

    def _read(self, container: str) -> None:
        try:
            stats = self._ask(container)
        except (DockerException, requests.RequestException, OSError) as problem:
            self._latest.pop(container, None)
            log.debug("stats-unread", container=container, problem=str(problem))
            return
        try:
            self._latest[container] = reading_of(stats, self._clock())
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as problem:
            # A form that the interface does not promise: the other containers are read.
            self._latest.pop(container, None)
            log.debug("stats-not-understood", container=container, problem=repr(problem))
