"""What gather knows of containers: joined to their telemetry, written for others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from models.contract import HOST_PREFIX
from models.records.inventory import InventoryEntry, State
from models.records.telemetry import Member

KEPT_GONE_NS: Final = 3_600 * 10**9
"""How long the entry of a container that is gone stays, for those who still look it up."""
UNKNOWN: Final = "unknown"
"""Lineage and image of containers that no inventory tells of."""

Group = tuple[str, str, str]
"""Scope, lineage and role."""
Name = tuple[str, str]
"""Scope and subject: machines that were cloned share their id, and never their scope's
telemetry."""


@dataclass(slots=True)
class Subject:
    """One container or host. ``number`` is small and its own while it is known."""

    number: int
    entry: InventoryEntry
    group: Group
    member: Member


@dataclass(slots=True)
class Inventory:
    """Everybody by name, and whose address is whose.

    ``version`` changes whenever an answer may differ, so that callers can keep answers.
    """

    version: int = 0
    subjects: dict[Name, Subject] = field(default_factory=dict)
    by_number: list[Subject | None] = field(default_factory=list)
    _free: list[int] = field(default_factory=list)
    _near: dict[tuple[str, str, str], Name] = field(default_factory=dict)
    _far: dict[tuple[str, str], dict[Name, None]] = field(default_factory=dict)
    _gone: dict[Name, None] = field(default_factory=dict)

    def learn(self, entry: InventoryEntry) -> bool:
        """Take an entry in; False when it tells nothing new or is older than what we know."""
        name = entry.scope, entry.subject
        known = self.subjects.get(name)
        if known is not None:
            if entry.seen_ns < known.entry.seen_ns or entry == known.entry:
                return False
            self._forget_addresses(known.entry)
            known.entry, known.group, known.member = entry, _group(entry), _member(entry)
        else:
            number = self._free.pop() if self._free else len(self.by_number)
            known = Subject(number, entry, _group(entry), _member(entry))
            self.subjects[name] = known
            if number == len(self.by_number):
                self.by_number.append(known)
            else:
                self.by_number[number] = known
        self.version += 1
        self._note(entry)
        return True

    def hosts(self) -> list[InventoryEntry]:
        every = self.subjects.items()
        return [known.entry for (_, name), known in every if name.startswith(HOST_PREFIX)]

    def peer_lineage(self, scope: str, host: str, address: str) -> str:
        """The lineage behind an address: of a container on that host, else the only one in
        the whole scope; empty where it is nobody we know or could be several.
        """
        near = self._near.get((scope, host, address))
        if near is not None:
            return self.subjects[near].entry.lineage
        far = self._far.get((scope, address))
        if not far:
            return ""
        lineages = {self.subjects[name].entry.lineage for name in far}
        return lineages.pop() if len(lineages) == 1 else ""

    def outlived(self, now_ns: int) -> list[str]:
        """Subjects gone for an hour: forgotten now (call it right after a flush only), to be
        deleted from the topic.
        """
        past = [n for n in self._gone if self.subjects[n].entry.seen_ns + KEPT_GONE_NS <= now_ns]
        for name in past:
            self.forget(name)
        return [subject for _, subject in past]

    def forget_deleted(self, subjects: set[str]) -> None:
        """What was deleted from the topic, whose keys are subjects alone."""
        if subjects:
            for name in [name for name in self.subjects if name[1] in subjects]:
                self.forget(name)

    def forget(self, name: Name) -> None:
        known = self.subjects.pop(name, None)
        if known is not None:
            self._forget_addresses(known.entry)
            self._gone.pop(name, None)
            self.by_number[known.number] = None
            self._free.append(known.number)
            self.version += 1

    def _note(self, entry: InventoryEntry) -> None:
        name = entry.scope, entry.subject
        self._gone.pop(name, None)
        if entry.state is State.GONE:
            self._gone[name] = None
        if entry.state not in (State.RUNNING, State.PAUSED):
            return
        for address in entry.addresses:
            self._near[entry.scope, entry.host, address] = name
            self._far.setdefault((entry.scope, address), {})[name] = None

    def _forget_addresses(self, entry: InventoryEntry) -> None:
        name = entry.scope, entry.subject
        for address in entry.addresses:
            near, far = (entry.scope, entry.host, address), (entry.scope, address)
            if self._near.get(near) == name:
                del self._near[near]
            if (held := self._far.get(far)) is not None:
                held.pop(name, None)
                if not held:
                    del self._far[far]


def unknown_entry(scope: str, subject: str, host: str) -> InventoryEntry:
    """Stands in for a container that nobody told us of, until somebody does."""
    return InventoryEntry(scope=scope, subject=subject, host=host, image=UNKNOWN, lineage=UNKNOWN)


def host_entry(scope: str, host: str, pool: str, now_ns: int) -> InventoryEntry:
    """What every frame tells of its host, whether or not its inventory does."""
    return InventoryEntry(
        scope=scope,
        subject=f"{HOST_PREFIX}{host}",
        host=host,
        image=HOST_PREFIX + pool,
        lineage=HOST_PREFIX + pool,
        seen_ns=now_ns,
    )


def _group(entry: InventoryEntry) -> Group:
    return entry.scope, entry.lineage, entry.role


def _member(entry: InventoryEntry) -> Member:
    return Member(
        entry.subject,
        entry.host,
        entry.image,
        entry.name,
        entry.started_ns,
        entry.memory_limit_bytes,
        entry.cpu_limit_cores,
    )
