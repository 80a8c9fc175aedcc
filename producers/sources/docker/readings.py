"""Counters of one container at one time, and the features that two of them make."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FEATURES: Final = (
    "cpu_cores",
    "cpu_throttled_ratio",
    "memory_working_set_bytes",
    "memory_limit_ratio",
    "disk_read_bytes_per_s",
    "disk_write_bytes_per_s",
    "network_receive_bytes_per_s",
    "network_transmit_bytes_per_s",
    "network_receive_packets_per_s",
    "network_transmit_packets_per_s",
    "network_connections_opened_per_s",
    "network_peers",
    "processes",
)
"""The order of a row; ``models/features.py`` knows units and families."""

NAN: Final = math.nan


@dataclass(slots=True)
class Reading:
    """What grows (ns, periods, bytes, packets) and what stands (bytes, tasks) at ``at_ns``.

    A counter that could not be read is NaN, never 0. ``memory_bytes`` is without page
    cache, so that a cache is no leak.
    """

    at_ns: int
    cpu_ns: float = NAN
    periods: float = NAN
    throttled_periods: float = NAN
    memory_bytes: float = NAN
    read_bytes: float = NAN
    write_bytes: float = NAN
    receive_bytes: float = NAN
    transmit_bytes: float = NAN
    receive_packets: float = NAN
    transmit_packets: float = NAN
    tasks: float = NAN


def row(
    now: Reading,
    before: Reading | None,
    limit_bytes: float = 0.0,
    opened: float = NAN,
    peers: float = NAN,
) -> list[float]:
    """One value for each of :data:`FEATURES`.

    ``opened`` counts connections since ``before``, ``peers`` those talked to. A rate needs
    two readings: without ``before`` it is NaN, and where a counter decreased (a restart) it
    is NaN this once.

    >>> row(Reading(2 * 10**9, cpu_ns=5e8), Reading(10**9, cpu_ns=0.0))[0]
    0.5
    """
    memory = now.memory_bytes
    ratio = memory / limit_bytes if limit_bytes > 0 else NAN
    if before is None or now.at_ns <= before.at_ns:
        return [NAN, NAN, memory, ratio, *[NAN] * 7, peers, now.tasks]
    seconds = (now.at_ns - before.at_ns) / 1e9
    return [
        _grown(now.cpu_ns, before.cpu_ns) / 1e9 / seconds,
        _share(
            _grown(now.throttled_periods, before.throttled_periods),
            _grown(now.periods, before.periods),
        ),
        memory,
        ratio,
        _grown(now.read_bytes, before.read_bytes) / seconds,
        _grown(now.write_bytes, before.write_bytes) / seconds,
        _grown(now.receive_bytes, before.receive_bytes) / seconds,
        _grown(now.transmit_bytes, before.transmit_bytes) / seconds,
        _grown(now.receive_packets, before.receive_packets) / seconds,
        _grown(now.transmit_packets, before.transmit_packets) / seconds,
        opened / seconds,
        peers,
        now.tasks,
    ]


def _grown(now: float, before: float) -> float:
    return now - before if now >= before else NAN


def _share(part: float, whole: float) -> float:
    """Without a quota no period passes, and nothing is throttled."""
    return part / whole if whole else part
