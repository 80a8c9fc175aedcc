"""The responder's process: everything that it is made of, from the settings."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # values alone are kept of them (models/part.py)
    from streams.meters import Meters
    from streams.responders.base import Responder
    from streams.responders.runner import Runner
    from streams.settings import Settings

MACHINE_ID: Final = Path("/etc/machine-id")


def respond(settings: Settings) -> None:
    """Until SIGTERM; what is in force then stays so until it runs again.

    Raises: ConfigurationError where a piece of it cannot work, StoreFailed.
    """
    from streams.meters import Meters, bound

    bound(part="respond")
    meters = Meters()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    made = runner(settings, meters, stopping)
    meters.serve(settings.responder.metrics_port, made.pulse.state)
    made.run()


def runner(settings: Settings, meters: Meters, stopping: threading.Event) -> Runner:
    """Everything that a responder is made of, from the settings; not running yet.

    Raises: ConfigurationError where one of them cannot work.
    """
    from models.contract import Topics
    from streams.keys import TrustFile
    from streams.responders import platform_of
    from streams.responders.course import Course
    from streams.responders.reception import Reception
    from streams.responders.recorder import FlightRecorder
    from streams.responders.runner import Runner
    from streams.responders.store import ResponderStore
    from streams.responders.witness import Witness
    from streams.stores.evidence import EvidenceStore
    from streams.stores.log import LogReader

    clock = time.time_ns
    platform: Responder = platform_of(settings.responder)
    store = ResponderStore(settings.responder_file)
    topics = Topics(settings.topic_prefix)
    recorder = FlightRecorder(LogReader(settings.kafka), topics.samples)
    evidence = EvidenceStore(settings.evidence_dir)
    evidence_s = settings.responder.evidence_s
    witness = Witness(platform, evidence, clock, recorder.pieces, volatile_s=evidence_s)
    course = Course(
        platform, store, witness, clock, ttl_s=settings.responder.ttl_s, stopping=stopping
    )
    hosts = (settings.responder.host or machine_id(),)
    trust = TrustFile(settings.keys_dir, clock)
    return Runner(
        settings.kafka.librdkafka(),
        topics,
        reception=Reception(trust, settings.scope, hosts, platform.about, clock),
        course=course,
        store=store,
        meters=meters,
        clock=clock,
        stopping=stopping,
    )


def machine_id() -> str:
    """The id of this machine, by which collectors name it too.

    Raises: ConfigurationError where it has none.
    """
    from models.errors import ConfigurationError

    try:
        return MACHINE_ID.read_text().strip()
    except OSError as problem:
        raise ConfigurationError(
            f"{MACHINE_ID}: {problem.strerror}; name the host with --host or "
            "PLIMSOLL_RESPONDER__HOST, as its collector does"
        ) from problem
