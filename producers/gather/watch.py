"""Whether frames are missing, come twice, or no longer come at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from models.contract import HOST_PREFIX
from models.records.facts import Coverage, Observation
from models.records.frame import Frame

RUNS_KEPT: Final = 4
"""Runs of a collector whose sequence is remembered: spools may mix the last few."""
INTERVALS_SILENT: Final = 3

HostKey = tuple[str, str]
"""Scope and machine id."""


@dataclass(slots=True)
class Watched:
    """One host's collector."""

    pool: str
    heard_ns: int
    interval_ns: int = 0
    silent: bool = False
    sequences: dict[str, int] = field(default_factory=dict)
    unexplained: int = 0
    """Frames that were told to be missing before a later one said that they were dropped."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a frame says about those before it. A repeated one is to be dropped."""

    repeated: bool
    facts: tuple[Coverage, ...] = ()


class Watch:
    """Of all hosts whose frames come to this gather.

    ``least_silence_ns``: no host counts as silent sooner, however short its interval.
    """

    def __init__(self, least_silence_ns: int) -> None:
        self._least_ns = least_silence_ns
        self._hosts: dict[HostKey, Watched] = {}

    def expect(self, scope: str, host: str, pool: str, now_ns: int) -> None:
        """A host that should be heard, though none of its frames came yet."""
        self._hosts.setdefault((scope, host), Watched(pool, now_ns))

    def frame(self, frame: Frame, now_ns: int) -> Heard:
        """Note one frame: call it once for each, in order."""
        fresh = Watched(frame.pool, now_ns)
        host = self._hosts.setdefault((frame.scope, frame.host), fresh)
        before = host.sequences.get(frame.producer)
        host.heard_ns = max(host.heard_ns, now_ns)
        if before is not None and frame.sequence <= before:
            return Heard(repeated=True)
        facts = tuple(self._faults(host, frame, before))
        host.pool, host.interval_ns, host.silent = frame.pool, round(frame.interval_s * 1e9), False
        host.sequences.pop(frame.producer, None)
        host.sequences[frame.producer] = frame.sequence
        while len(host.sequences) > RUNS_KEPT:
            del host.sequences[next(iter(host.sequences))]
        return Heard(repeated=False, facts=facts)

    def _faults(self, host: Watched, frame: Frame, before: int | None) -> Iterator[Coverage]:
        first = before is None
        if host.silent:
            yield Coverage("silent", "frames come again", until_ns=frame.at_ns)
        if first and host.sequences:
            yield Coverage(
                "restarted", f"collector {frame.producer} took over", until_ns=frame.at_ns
            )
        if first and not host.sequences:
            expected = frame.sequence  # what came before we did is not ours to judge
        else:
            expected = 0 if before is None else before + 1
        gap = frame.sequence - expected
        missing = max(gap - frame.dropped, 0)
        # A full spool gives up its oldest: what was in it behind those came first.
        known = min(max(frame.dropped - gap, 0), host.unexplained)
        host.unexplained += missing - known
        if missing:
            detail = f"frames {expected} to {frame.sequence - 1} of {frame.producer} never came"
            yield Coverage("frames-missing", detail, missing=missing, until_ns=frame.at_ns)
        if dropped := frame.dropped - known:
            detail = "the collector's spool was full: Kafka was away for too long"
            yield Coverage("frames-dropped", detail, dropped, until_ns=frame.at_ns)

    def fall_silent(self, now_ns: int) -> list[tuple[str, str, str, Coverage]]:
        """Hosts that are silent since now: scope, host, pool and the fact, each told once."""
        found = []
        for (scope, name), host in self._hosts.items():
            host.heard_ns = host.heard_ns or now_ns  # expected before anybody knew the time
            patience_ns = max(INTERVALS_SILENT * host.interval_ns, self._least_ns)
            if not host.silent and now_ns - host.heard_ns > patience_ns:
                host.silent = True
                detail = f"no frame for {(now_ns - host.heard_ns) / 1e9:.0f} s"
                found.append((scope, name, host.pool, Coverage("silent", detail)))
        return found

    def speaking(self) -> int:
        """Hosts that are not silent."""
        return sum(not host.silent for host in self._hosts.values())

    def silent(self) -> int:
        return len(self._hosts) - self.speaking()

    def forget(self, hosts: set[HostKey]) -> None:
        for key in hosts:
            self._hosts.pop(key, None)

    def hosts(self) -> set[HostKey]:
        return set(self._hosts)


def about_host(host: str, at_ns: int, fact: Coverage) -> Observation:
    return Observation(f"{HOST_PREFIX}{host}", at_ns, fact)
