"""Bytes and packets of network interfaces, from ``/proc/PID/net/dev``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from models.records.facts import Interface
from producers.sources.docker.readings import Reading
from producers.sources.docker.secrecy import printable

Totals = tuple[int, int, int, int]
"""Received bytes and packets, sent bytes and packets."""


def totals(text: bytes, counts: Callable[[str], bool]) -> dict[str, Totals]:
    r"""By interface, those that count.

    >>> totals(b"a\nb\n  lo: 9 9 0 0 0 0 0 0 9 9 0\n eth0: 5 1 0 0 0 0 0 0 7 2 0\n",
    ...        lambda name: name != "lo")
    {'eth0': (5, 1, 7, 2)}
    """
    found = {}
    for line in text.split(b"\n")[2:]:
        raw, _, rest = line.partition(b":")
        name = os.fsdecode(raw.strip())
        if rest and counts(name):
            with suppress(ValueError, IndexError):  # a line of another form: the others count
                values = rest.split()
                found[name] = (int(values[0]), int(values[1]), int(values[8]), int(values[9]))
    return found


def not_loopback(name: str) -> bool:
    return name != "lo"


class NetworkFile:
    """A process's view of its interfaces. The open file keeps that network namespace
    alive: close it when the container ends.
    """

    def __init__(self, path: Path, counts: Callable[[str], bool] = not_loopback) -> None:
        self._counts = counts
        self._before: dict[str, Totals] = {}
        self._now: dict[str, Totals] = {}
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
            self._before, self._now = self._now, found
            if found:
                sums = [float(sum(column)) for column in zip(*found.values(), strict=True)]
                reading.receive_bytes, reading.receive_packets = sums[0], sums[1]
                reading.transmit_bytes, reading.transmit_packets = sums[2], sums[3]

    def moved(self) -> Iterator[Interface]:
        """What went through each since the fill before; none where there is only one, whose
        figures are those of the sample.
        """
        if len(self._now) < 2:
            return
        for name, now in self._now.items():
            before = self._before.get(name)
            if before is None or now == before:
                continue
            grown = [max(one - other, 0) for one, other in zip(now, before, strict=True)]
            yield Interface(printable(name, 64), grown[0], grown[2], grown[1], grown[3])

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
