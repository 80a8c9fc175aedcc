"""Incidents as the topics tell them: bounded reading for commands and reports.

Alerts carry each incident's whole state; the chain of one incident lies in one partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from confluent_kafka import Message

from models.contract import KIND_HEADER, Topics
from models.errors import ConfigurationError, MalformedRecord, UntrustedMessage
from models.evidence import Head, Verification, verify
from models.records.codec import decode
from models.records.exhibit import Exhibit
from models.records.signed import Signed
from models.records.telemetry import Batch
from models.settings import Kafka
from streams.alerts import unwrapped
from streams.keys import Role, Trust
from streams.stores.log import LogReader

log = structlog.get_logger(__name__)

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Story:
    """One incident: its alerts, oldest first; each holds the whole state at its time."""

    uid: str
    alerts: tuple[Mapping[str, Any], ...]

    @property
    def latest(self) -> Mapping[str, Any]:
        return self.alerts[-1]

    @property
    def state(self) -> Mapping[str, Any]:
        """The part that OCSF has no place for."""
        unmapped: Mapping[str, Any] = self.latest["unmapped"]
        return unmapped

    @property
    def subject(self) -> str:
        return str(self.latest["resources"][0]["uid"])

    @property
    def open(self) -> bool:
        return self.state["stage"] not in ("closed", "dismissed")

    @property
    def created_ms(self) -> int:
        return int(self.latest["finding_info"]["created_time"])

    def witnesses(self) -> list[Head]:
        """What the alerts, which others have too, said of the chain."""
        found = []
        for alert in self.alerts:
            said = alert["unmapped"]["evidence"]
            if said["exhibits"] and said["head"]:
                scope, at_ns = alert["unmapped"]["scope"], int(alert["time"]) * 10**6
                found.append(Head(scope, self.uid, said["exhibits"], said["head"], at_ns))
        return found


@dataclass(slots=True)
class Chain:
    """One incident's evidence as it lies in the log; ``problems`` are heads that nobody we
    trust has signed, and records that are no evidence at all.
    """

    exhibits: list[Exhibit] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def verified(self, story: Story | None = None) -> Verification:
        return verify(self.exhibits, self.heads, story.witnesses() if story else ())


class Incidents:
    """Reads what the governor wrote. Raises BrokerUnreachable when Kafka does not answer."""

    def __init__(self, kafka: Kafka, topics: Topics, trust: Trust, *, by_time: bool = True) -> None:
        self._log = LogReader(kafka, by_time=by_time)
        self._topics = topics
        self._trust = trust

    def stories(self) -> list[Story]:
        """All incidents that the alerts topic still holds, the latest first."""
        return self._stories(self._log.scan(self._topics.alerts))

    def story(self, uid: str) -> Story:
        """One incident, by its id or the beginning of it.

        Raises: ConfigurationError when none or several begin so.
        """
        found = [one for one in self.stories() if one.uid == uid or _begins(one.uid, uid)]
        exact = [one for one in found if one.uid == uid]
        if len(exact or found) == 1:
            return (exact or found)[0]
        what = "no incident" if not found else f"{len(found)} incidents"
        raise ConfigurationError(
            f"{what} with an id that begins with {uid!r}: `plimsoll incident list --all` tells them"
        )

    def chain(self, uid: str, since_ms: int = 0) -> Chain:
        """One incident's evidence; ``since_ms`` when it was opened, to begin a day before."""
        chain = Chain()
        begin_ms = max(since_ms - _DAY_MS, 0)
        for message in self._log.scan(self._topics.evidence, key=uid, since_ms=begin_ms):
            if message.key() == uid.encode():
                self._take(chain, message)
        return chain

    def telemetry(self, group: str, from_ms: int, to_ms: int) -> Iterator[Batch]:
        """Batches of a group that the log took in between these times, where still there."""
        for message in self._log.scan(self._topics.telemetry, key=group, since_ms=from_ms):
            stamped_ms: int = message.timestamp()[1]
            if stamped_ms > to_ms:
                return
            if stamped_ms < from_ms:
                continue
            if message.key() == group.encode() and _kind(message) == "batch":
                try:
                    yield decode(Batch, message.value())
                except MalformedRecord as problem:
                    log.warning("a batch cannot be read", why=str(problem), group=group)

    def _take(self, chain: Chain, message: Message) -> None:
        try:
            if _kind(message) == "head":
                signed = decode(Signed, message.value())
                # A key that has been retired since still vouches for what it signed then.
                stamped_ns = message.timestamp()[1] * 10**6
                payload = self._trust.verify(signed, Role.GOVERNOR, stamped_ns)
                chain.heads.append(decode(Head, payload))
            else:
                chain.exhibits.append(decode(Exhibit, message.value()))
        except (MalformedRecord, UntrustedMessage) as problem:
            chain.problems.append(f"record at offset {message.offset()}: {problem}")

    def _stories(self, messages: Iterator[Message]) -> list[Story]:
        alerts: dict[str, dict[str, Mapping[str, Any]]] = {}
        for message in messages:
            try:
                body = unwrapped(message.key(), message.value(), message.headers() or [])
                uid, number = body["finding_info"]["uid"], body["metadata"]["uid"]
                alerts.setdefault(uid, {})[number] = body  # sent twice is one
            except (MalformedRecord, KeyError, TypeError) as problem:
                log.warning("an alert cannot be read", offset=message.offset(), why=repr(problem))
        stories = [Story(uid, tuple(found.values())) for uid, found in alerts.items()]
        return sorted(stories, key=lambda one: int(one.latest["time"]), reverse=True)


def _begins(uid: str, said: str) -> bool:
    return bool(said) and (uid.startswith(said) or uid.removeprefix("inc-").startswith(said))


def _kind(message: Message) -> str:
    headers: Any = dict(message.headers() or ())
    return (headers.get(KIND_HEADER) or b"").decode(errors="replace")
