"""May each part do what it has to?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaException

from models.permissions import permissions
from streams.doctor.base import Case, Check, Found, State
from streams.permitted import missing


def _rights(case: Case) -> Iterator[Found]:
    kafka = case.kafka
    for part in case.parts:
        try:
            lacking = missing(kafka, permissions(part, case.names))
        except KafkaException as problem:
            yield Found(part, problem.args[0].str(), "ask again", State.UNKNOWN)
            continue
        for one in lacking:
            what = f"{', '.join(one.operations)} {one.kind} {one.name}"
            todo = f"plimsoll topics acls {part} prints what to grant"
            yield Found(part, f"{kafka.principal} may not {what}", todo)


RIGHTS: Final = Check("rights", "may each part do what it has to?", _rights, ("login",))
