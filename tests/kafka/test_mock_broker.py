"""The same delivery on librdkafka's broker inside a process, which the demo runs on."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Producer

from tests.kafka.trial import Trial
from tests.kafka.worker import POISON


def test_a_killed_worker_loses_nothing_on_the_embedded_broker(tmp_path: Path) -> None:
    """It knows neither topic creation nor retention settings, and starts without Java."""
    embedded = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    broker = next(iter(embedded.list_topics(timeout=10).brokers.values()))
    options = {"may_create_topics": False, "nap_s": 0.02, "most": 20}
    with Trial(f"{broker.host}:{broker.port}", "t.", tmp_path, options) as trial:
        for topic in (trial.outputs, trial.dead):
            embedded.list_topics(topic, timeout=10)  # asking creates it
        trial.produce(400)
        trial.produce(1, POISON)
        first = trial.start()
        trial.until_outputs(100)
        first.kill()
        trial.start()
        trial.until_committed()
        verdict = trial.verdict()

    assert (verdict.lost, verdict.rejected, verdict.state_equal) == (0, 1, True)
