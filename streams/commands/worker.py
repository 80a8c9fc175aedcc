"""``plimsoll worker``: the judge."""

from __future__ import annotations

import time
from typing import Annotated

import typer


def command(
    group: Annotated[
        str | None, typer.Option(help="Consumer group; another one begins with nothing learned.")
    ] = None,
) -> None:
    """Judge: hold the baselines, score what departs from them.

    Start as many as there is work for: Kafka shares the partitions among them. Ends with 0
    on SIGTERM, and otherwise when it could lose something: start it again.
    """
    from models.permissions import permissions
    from streams.build import judge_app
    from streams.delivery.app import Vital, run
    from streams.meters import Meters, bound
    from streams.permitted import names_of, permitted
    from streams.settings import load

    settings = load(worker={"group": group})
    bound(part="worker")
    meters = Meters()
    vital = Vital(meters.took, meters.recovery_s.observe)
    meters.serve(settings.worker.metrics_port, vital.state)
    with permitted(settings.kafka, permissions("worker", names_of(settings))):
        app = judge_app(settings, meters, time.time_ns)
        run(app, patience_s=settings.worker.stuck_s, vital=vital)
