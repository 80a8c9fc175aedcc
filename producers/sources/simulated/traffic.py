"""Requests travel from callers to called: bytes that one sends, another receives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from models.records.facts import Direction
from producers.sources.simulated.chance import Chance, Drift, chance, count, rough
from producers.sources.simulated.container import Container
from producers.sources.simulated.images import (
    CLIENTS,
    CROWDS,
    OUTSIDE,
    Link,
    Profile,
    callers_first,
)

DAY_S: Final = 86_400
CLIENTS_AT_ONCE: Final = 8
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS


class Traffic:
    """Moves one interval's requests through the fleet."""

    def __init__(self, seed: int, catalogue: Sequence[Profile]) -> None:
        self._order = callers_first(tuple(catalogue))
        self._rng = chance(seed, "traffic")
        self._mood = {
            profile.name: Drift(chance(seed, "mood", profile.name), profile.restless, 180.0)
            for profile in catalogue
        }
        self.surge: dict[str, float] = {}
        """A part's demand of its own, as a multiple of the usual; 1 where not named."""
        self.outside: dict[str, tuple[str, ...]] = dict(OUTSIDE)
        """Where services outside of the fleet answer, by name: what DNS says just now."""
        self.moved: dict[str, dict[str, tuple[str, ...]]] = {}
        """What single containers resolve otherwise: subject → name → addresses."""

    def pass_on(
        self, parts: Mapping[str, Sequence[Container]], seconds: float, now_ns: int
    ) -> None:
        """One interval. ``parts``: containers by the part that they belong to."""
        for members in parts.values():
            for container in members:
                container.flows.clear()
                container.requests = 0.0
        for name in self._order:
            ready = [c for c in parts.get(name, ()) if c.ready(now_ns)]
            self._arrive(name, ready, seconds, now_ns)
            for caller in ready:
                for link in caller.profile.links:
                    self._call(caller, link, parts, now_ns)

    def _arrive(self, name: str, ready: Sequence[Container], seconds: float, now_ns: int) -> None:
        """Demand from outside, shared out among those that can take it."""
        mood = self._mood[name].after(seconds)
        if not ready or not ready[0].profile.demand_per_s:
            return
        profile = ready[0].profile
        demand = profile.demand_per_s * rhythm(profile, now_ns) * mood * self.surge.get(name, 1.0)
        for container in ready:
            requests = count(self._rng, demand * seconds / len(ready))
            container.requests += requests
            if profile.clients:
                self._from_clients(container, requests)

    def _from_clients(self, container: Container, requests: float) -> None:
        calls = requests / CLIENTS_AT_ONCE
        for _ in range(CLIENTS_AT_ONCE):
            sent = calls * container.profile.reply_bytes * rough(self._rng, 0.25)
            peer = one_of_crowd(self._rng, CLIENTS)
            opened = count(self._rng, calls / 6)
            key = (INGRESS, peer, container.profile.port, "tcp")
            container.carry(key, sent, calls * 700, calls, opened)

    def _call(
        self,
        caller: Container,
        link: Link,
        parts: Mapping[str, Sequence[Container]],
        now_ns: int,
    ) -> None:
        calls = count(self._rng, caller.requests * link.calls_per_request)
        if link.to not in parts:
            self._out(caller, link, calls)
            return
        called = [c for c in parts[link.to] if c.ready(now_ns)]
        for target in called:
            self._between(caller, target, link, count(self._rng, calls / len(called)))

    def _between(self, caller: Container, called: Container, link: Link, calls: int) -> None:
        if not calls:
            return
        sent, received, opened = self._sizes(link, calls)
        called.requests += calls
        there = (EGRESS, called.address, link.port, link.protocol)
        back = (INGRESS, caller.address, link.port, link.protocol)
        caller.carry(there, sent, received, calls, opened)
        called.carry(back, received, sent, calls, opened)

    def _out(self, caller: Container, link: Link, calls: int) -> None:
        if link.to in CROWDS:
            for _ in range(calls):
                peer = one_of_crowd(self._rng, link.to)
                sent, received, _opened = self._sizes(link, 1)
                caller.carry((EGRESS, peer, link.port, link.protocol), sent, received, 1, 1)
        elif calls:
            known = self.moved.get(caller.subject, {}).get(link.to) or self.outside[link.to]
            peer = self._rng.choice(known)
            sent, received, opened = self._sizes(link, calls)
            key = (EGRESS, peer, link.port, link.protocol)
            caller.carry(key, sent, received, calls, opened)

    def _sizes(self, link: Link, calls: float) -> tuple[float, float, int]:
        """Bytes there and back, and connections opened for so many calls."""
        spread = 0.5 / math.sqrt(calls)
        sent = calls * link.sent_bytes * rough(self._rng, spread)
        received = calls * link.received_bytes * rough(self._rng, spread)
        return sent, received, count(self._rng, calls / link.calls_per_connection)


def rhythm(profile: Profile, now_ns: int) -> float:
    """The time of day, as a factor around 1."""
    hour = now_ns / 3.6e12 % 24
    return 1.0 + profile.rhythm_depth * math.cos((hour - profile.rhythm_peak_h) / 24 * math.tau)


def one_of_crowd(rng: Chance, crowd: str) -> str:
    """A peer of a crowd: the first few often, most of the others hardly ever."""
    rank = int(CROWDS[crowd] ** rng.random())
    second = 18 if crowd == CLIENTS else 19
    return f"198.{second}.{rank >> 8 & 255}.{rank & 255}"
