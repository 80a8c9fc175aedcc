"""Quix Streams, as its guide has it: a stateful dataframe, RocksDB and a changelog topic."""

from __future__ import annotations

import os
from typing import Any

from quixstreams import Application

from infra.bench.engines import job


def main() -> None:
    score, meter = job.scorer(), job.Meter()
    app = Application(
        broker_address=job.BOOTSTRAP, consumer_group=job.RUN, auto_offset_reset="earliest",
        state_dir=str(job.DIRECTORY / job.RUN), loglevel="ERROR",
    )  # fmt: skip  # short enough
    telemetry = app.topic(job.TOPIC, value_deserializer="bytes", key_deserializer="str")
    alerts = app.topic(job.ALERTS, value_serializer="bytes", key_serializer="str")

    def judge(data: bytes, state: Any) -> bytes | None:
        meter.start()
        image, values = job.decode(data)
        off, after = job.step(state.get_bytes("baseline"), values)
        state.set_bytes("baseline", after)
        body = job.alert(image, score(off.T))
        if meter.add(values.shape[1], alerted=body is not None):
            app.stop()
        return body

    frame = app.dataframe(telemetry).apply(judge, stateful=True)
    frame = frame[frame.apply(lambda body: body is not None)]
    frame.to_topic(alerts)
    app.run()  # returns once the last checkpoint is committed and the producer flushed
    meter.tell()
    os._exit(0)


if __name__ == "__main__":
    main()
