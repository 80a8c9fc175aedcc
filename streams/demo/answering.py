"""The responder of the demo: the real runner, acting on the simulated fleet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any, Self

from models.contract import Topics
from streams.keys import TrustFile
from streams.meters import Meters
from streams.responders.course import Course
from streams.responders.reception import Reception
from streams.responders.runner import Runner
from streams.responders.simulated import ABOUT, Simulated
from streams.responders.store import ResponderStore
from streams.responders.witness import Witness
from streams.settings import Settings
from streams.stores.evidence import EvidenceStore


class Answering:
    """Carries orders out on the fleet, by the fleet's time, in a thread of its own."""

    def __init__(
        self, settings: Settings, fleet: Any, hosts: Collection[str], clock: Callable[[], int]
    ) -> None:
        topics, self._stopping = Topics(settings.topic_prefix), threading.Event()
        self._store = ResponderStore(settings.responder_file)
        platform = Simulated(fleet)
        witness = Witness(platform, EvidenceStore(settings.evidence_dir), clock)
        course = Course(
            platform, self._store, witness, clock,
            ttl_s=settings.responder.ttl_s, stopping=self._stopping,
        )  # fmt: skip  # one thought a line
        trust = TrustFile(settings.keys_dir, clock)
        runner = Runner(
            settings.kafka.librdkafka(), topics,
            reception=Reception(trust, settings.scope, hosts, ABOUT, clock), course=course,
            store=self._store, meters=Meters(), clock=clock, stopping=self._stopping,
        )  # fmt: skip  # one thought a line
        self._thread = threading.Thread(target=runner.run, name="respond", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._store.close()
