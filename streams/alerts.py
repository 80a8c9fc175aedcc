"""Alerts as CloudEvents in binary mode: attributes in headers, the finding as the value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from models.alert import OCSF, Alert
from models.errors import MalformedRecord

TYPE: Final = "plimsoll.detection_finding"
SCHEMA: Final = f"https://schema.ocsf.io/{OCSF}/classes/detection_finding"
_NO_EVENT: Final = (ValueError, TypeError, KeyError, RecursionError, CloudEventValidationError)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """One record of the alerts topic."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def wrapped(alert: Alert) -> Wrapped:
    """The record of an alert: keyed by incident, its id the same whenever it is sent again."""
    event = CloudEvent(
        attributes={
            "specversion": "1.0",
            "id": alert.uid,
            "source": f"/plimsoll/{alert.scope}",
            "type": f"{TYPE}.{alert.change}.v1",
            "time": datetime.fromtimestamp(alert.at_ns / 1e9, UTC),
            "subject": alert.subject,
            "dataschema": SCHEMA,
            "datacontenttype": "application/json",
            "partitionkey": alert.incident,
        },
        data=alert.body,
    )
    message = to_binary(event, JSONFormat())
    return Wrapped(alert.incident.encode(), message.value, tuple(message.headers.items()))


def unwrapped(key: bytes | None, value: bytes | None, headers: Iterable[Any]) -> dict[str, Any]:
    """The finding of a record of the alerts topic.

    Raises: MalformedRecord when it is no CloudEvent that holds a JSON object.
    """
    try:
        named = {name: bytes(body or b"") for name, body in headers}
        message = KafkaMessage(named, key, value or b"")
        body = from_binary(message, JSONFormat()).get_data()
    except _NO_EVENT as problem:
        raise MalformedRecord("undecodable", f"no CloudEvent of ours ({problem})") from problem
    if not isinstance(body, dict) or "finding_info" not in body:
        raise MalformedRecord("unknown-schema", "no detection finding")
    return body
