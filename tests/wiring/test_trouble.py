"""While Kafka is away a log stays readable."""

from __future__ import annotations

from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from streams.trouble import AGAIN_S, Trouble


def test_the_same_is_said_once_in_a_while_with_how_often_it_was_not() -> None:
    """Twenty lines a second would hide what else happens."""
    now_s = [0.0]
    trouble = Trouble(lambda: now_s[0])
    away, down = KafkaError(KafkaError._TRANSPORT), KafkaError(KafkaError._ALL_BROKERS_DOWN)

    with capture_logs() as lines:
        for _ in range(5):
            trouble(away)
        trouble(down)
        now_s[0] = AGAIN_S
        trouble(away)

    assert [(str(line["why"]), line["unsaid"]) for line in lines] == [
        (str(away), 0), (str(down), 4), (str(away), 0),
    ]  # fmt: skip  # a list
