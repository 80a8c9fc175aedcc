"""The pipe's limit: confluent-kafka and the forest alone, a whole poll judged at once."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, Producer

from infra.bench.engines import job

COMMIT_S: Final = 0.5
MOST_MESSAGES: Final = 500
MOST_SAMPLES: Final = 20_000
"""In one call of the forest; beyond, arrays fall out of the processor's cache."""


def main() -> None:
    score, meter = job.scorer(), job.Meter()
    states: dict[bytes, bytes] = {}
    owed: dict[bytes, int] = {}
    consumer = Consumer({
        "bootstrap.servers": job.BOOTSTRAP, "group.id": job.RUN,
        "auto.offset.reset": "earliest", "enable.auto.commit": False,
    })  # fmt: skip  # short enough
    consumer.subscribe([job.TOPIC])
    producer = Producer(
        {"bootstrap.servers": job.BOOTSTRAP, "linger.ms": 20, "enable.idempotence": True}
    )
    due_s, done, most = time.monotonic() + COMMIT_S, False, MOST_MESSAGES
    while not done:
        messages: list[Any] = consumer.consume(most, 0.2)
        if messages:
            meter.start()
            owed |= {message.key(): message.partition() for message in messages}
            done = _judge(messages, states, score, producer, meter)
            most = max(1, min(MOST_MESSAGES, MOST_SAMPLES * meter.messages // meter.samples))
        producer.poll(0)
        if owed and (done or time.monotonic() > due_s):
            # As Plimsoll writes it: once a key and commit.
            for key, partition in owed.items():
                producer.produce(job.CHANGELOG, states[key], key, partition)
            producer.flush(30)
            consumer.commit(asynchronous=False)
            owed.clear()
            due_s = time.monotonic() + COMMIT_S
    meter.tell()
    os._exit(0)


def _judge(
    messages: list[Any],
    states: dict[bytes, bytes],
    score: Any,
    producer: Producer,
    meter: job.Meter,
) -> bool:
    work = []
    for message in messages:
        key = message.key()
        image, values = job.decode(message.value())
        off, states[key] = job.step(states.get(key), values)
        work.append((image, off.T))
    ends = np.cumsum([len(off) for _, off in work])[:-1]
    scores = np.split(score(np.concatenate([off for _, off in work])), ends)
    done = False
    for (image, _), mine in zip(work, scores, strict=True):
        body = job.alert(image, mine)
        if body is not None:
            producer.produce(job.ALERTS, body, image)
        done = meter.add(len(mine), alerted=body is not None)
    return done


if __name__ == "__main__":
    main()
