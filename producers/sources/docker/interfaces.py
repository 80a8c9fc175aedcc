"""Bytes and packets of network interfaces, from ``/proc/PID/net/dev``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from producers.sources.docker.readings import Reading

Totals = tuple[int, int, int, int]
"""Received bytes and packets, sent bytes and packets."""


def totals(text: bytes, counts: Callable[[str], bool]) -> Totals | None:
    r"""The sum over the interfaces that count; None where there is none.

    >>> totals(b"a\nb\n  lo: 9 9 0 0 0 0 0 0 9 9 0\n eth0: 5 1 0 0 0 0 0 0 7 2 0\n",
    ...        lambda name: name != "lo")
    (5, 1, 7, 2)
    """
    sums, found = [0, 0, 0, 0], False
    for line in text.split(b"\n")[2:]:
        name, _, rest = line.partition(b":")
        if not rest or not counts(os.fsdecode(name.strip())):
            continue
        values = rest.split()
        found = True
        for at, column in enumerate((0, 1, 8, 9)):
            sums[at] += int(values[column])
    return (sums[0], sums[1], sums[2], sums[3]) if found else None


def not_loopback(name: str) -> bool:
    return name != "lo"


class NetworkFile:
    """A process's view of its interfaces. The open file keeps that network namespace
    alive: close it when the container ends.
    """

    def __init__(self, path: Path, counts: Callable[[str], bool] = not_loopback) -> None:
        self._counts = counts
        self._file = -1
        with suppress(OSError):  # the process is gone, or not ours to look at
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def fill(self, reading: Reading) -> None:
        """Set the four network counters. Where no interface is left, which is what an
        isolated container looks like, nothing flows: they stay NaN.
        """
        if self._file < 0:
            return
        with suppress(OSError):
            found = totals(os.pread(self._file, 65_536, 0), self._counts)
            if found is not None:
                reading.receive_bytes, reading.receive_packets = found[0], found[1]
                reading.transmit_bytes, reading.transmit_packets = found[2], found[3]

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
