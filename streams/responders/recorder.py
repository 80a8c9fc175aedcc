"""The flight recorder: a subject's own telemetry of the minutes before, as evidence.

It lies in Kafka for days, so it is no hurry; but a chain that holds it still shows in three
years what the container did before it was touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import orjson

from models.errors import MalformedRecord
from models.records.codec import decode
from models.records.order import Order
from streams.responders.base import Piece
from streams.stores.log import LogReader

if TYPE_CHECKING:
    from models.records.frame import Frame

BEFORE_S: Final = 300
MOST_OBSERVATIONS: Final = 2000


class FlightRecorder:
    """Reads what the host's collector wrote; ``topic`` is that of samples."""

    def __init__(self, log: LogReader, topic: str) -> None:
        self._log = log
        self._topic = topic

    def pieces(self, order: Order) -> Iterator[Piece]:
        """One piece: samples and observations from five minutes before the order until now.

        Raises: BrokerUnreachable.
        """
        samples: list[dict[str, Any]] = []
        observations: list[dict[str, Any]] = []
        for frame in self._frames(order):
            samples += _samples(frame, order.subject)
            observations += _observations(frame, order.subject)
        if not samples and not observations:
            said = f"telemetry: nothing of it was written in the {BEFORE_S} s before"
            yield Piece("missing", b"telemetry", detail=said)
            return
        told = {"samples": samples, "observations": observations[-MOST_OBSERVATIONS:]}
        said = f"{len(samples)} samples, {len(observations)} observations"
        yield Piece("telemetry", orjson.dumps(told), detail=said)

    def _frames(self, order: Order) -> Iterator[Frame]:
        from models.records.frame import Frame  # and numpy with it: few responders ever act

        since_ms = order.issued_ns // 10**6 - BEFORE_S * 1000
        for message in self._log.scan(self._topic, key=order.host, since_ms=since_ms):
            if message.key() != order.host.encode():
                continue
            try:
                frame = decode(Frame, message.value())
            except MalformedRecord:
                continue  # gather rejects it, with a trace
            if (frame.scope, frame.host) == (order.scope, order.host):
                yield frame


def _samples(frame: Frame, subject: str) -> Iterator[dict[str, Any]]:
    """Each by feature name; what was not measured is left out."""
    table = frame.samples
    if subject not in table.subjects:
        return
    for row in (table.index == table.subjects.index(subject)).nonzero()[0]:
        values = zip(table.features, table.columns[:, row].tolist(), strict=True)
        measured = {name: value for name, value in values if value == value}  # noqa: PLR0124  # NaN
        yield {"at_ns": int(table.times_ns[row]), **measured}


def _observations(frame: Frame, subject: str) -> Iterator[dict[str, Any]]:
    for one in frame.observations:
        if one.subject == subject:
            yield {"at_ns": one.at_ns, "kind": one.fact.KIND, **asdict(one.fact)}
