"""Where the log of a partition begins and where it ends."""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

_ASK_S: Final = 15.0
_SETTLING: Final = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
}


def _settling(problem: BaseException) -> bool:
    """A partition's leader is on its way: the topic was just made, or a broker went away."""
    return isinstance(problem, KafkaException) and problem.args[0].code() in _SETTLING


@retry(
    retry=retry_if_exception(_settling), stop=stop_after_delay(_ASK_S), wait=wait_fixed(0.1),
    reraise=True,
)  # fmt: skip  # one thought
def bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """The first offset that is kept, and the next one to be written.

    A partition whose leader is just being chosen is asked again, for up to fifteen seconds.

    Raises: KafkaException, when Kafka does not answer, or has no such partition.
    """
    low, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ASK_S)
    return low, end
