"""Where a partition ends, also while its leader is being chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from streams.bounds import bounds


@dataclass
class Settling:
    """A broker that answers so before it answers: a real one does so for milliseconds."""

    code: int
    times: int
    asked: int = 0

    def get_watermark_offsets(self, _place: Any, timeout: float) -> tuple[int, int]:
        assert timeout > 0
        self.asked += 1
        if self.asked <= self.times:
            raise KafkaException(KafkaError(self.code))
        return 3, 7


@pytest.mark.parametrize(
    "code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE]
)
def test_a_partition_without_a_leader_is_asked_again(code: int) -> None:
    """A command would end with an error a moment before it would have worked."""
    broker = Settling(code, times=2)

    assert bounds(cast("Consumer", broker), "alerts", 0) == (3, 7)


def test_what_will_not_pass_is_told_at_once() -> None:
    """Who may not read a topic need not wait to hear it."""
    broker = Settling(KafkaError.TOPIC_AUTHORIZATION_FAILED, times=9)

    with pytest.raises(KafkaException):
        bounds(cast("Consumer", broker), "alerts", 0)
    assert broker.asked == 1
