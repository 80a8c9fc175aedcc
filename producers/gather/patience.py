"""Asking Kafka until it answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
from confluent_kafka import KafkaException
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from models.errors import BrokerUnreachable

T = TypeVar("T")
log = structlog.get_logger("gather")


def patiently(ask: Callable[[], T], bootstrap: str, stop: threading.Event) -> T:
    """What Kafka answers, asked again for as long as it does not and nobody stops us.

    Raises: BrokerUnreachable when we were stopped before it answered.
    """

    def tell(state: RetryCallState) -> None:
        problem = state.outcome.exception() if state.outcome else None
        log.warning(
            "kafka-away",
            bootstrap=bootstrap,
            problem=str(problem),
            todo="is it running and reachable from here? asked again until it answers",
        )

    asking = Retrying(
        retry=retry_if_exception_type(KafkaException),
        wait=wait_exponential(1, 10),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return asking(ask)
    except KafkaException as problem:
        raise BrokerUnreachable(f"{bootstrap}: {problem}") from problem
