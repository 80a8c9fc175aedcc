"""Bytewax, as its guide has it: a stateful map by key, recovery snapshots on disk."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from infra.bench.engines import job


def main() -> None:
    score, meter = job.scorer(), job.Meter()

    def read(message: Any) -> tuple[str, Any]:
        meter.start()
        return job.decode(message.value)

    def judge(state: bytes | None, values: Any) -> tuple[bytes, Any]:
        off, after = job.step(state, values)
        return after, score(off.T)

    def tell(item: tuple[str, Any]) -> Any:
        image, scores = item
        body = job.alert(image, scores)
        meter.add(len(scores), alerted=body is not None)
        return None if body is None else KafkaSinkMessage(image.encode(), body)

    flow = Dataflow("bench")
    source = KafkaSource([job.BOOTSTRAP], [job.TOPIC], tail=False, batch_size=500)
    keyed = op.map("read", op.input("telemetry", flow, source), read)
    judged = op.stateful_map("judge", keyed, judge)
    sink = KafkaSink([job.BOOTSTRAP], job.ALERTS)
    op.output("alerts", op.filter_map("tell", judged, tell), sink)
    snapshots = job.DIRECTORY / job.RUN
    snapshots.mkdir()
    init_db_dir(snapshots, 1)
    cli_main(
        flow, epoch_interval=timedelta(seconds=2), recovery_config=RecoveryConfig(snapshots)
    )  # returns at the topic's end, snapshots written and the producer flushed
    meter.tell()
    os._exit(0)


if __name__ == "__main__":
    main()
