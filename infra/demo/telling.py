"""The demo from warm-up to the last answer, in real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Producer

from infra.demo.containers import SERVICES, Troupe
from infra.demo.deployment import Deployment, DeploymentFailed
from infra.demo.stories import SECOND_NS, Running, Story, begin, lineage
from models.contract import ONLY_PARTITION, Topics, telemetry_key
from streams import training
from streams.demo.script import Told, told
from streams.demo.view import View
from streams.keys import Role, Signer
from streams.stores.models import ModelStore, announced

DRAW_S: Final = 0.25
FIRST_WORD_S: Final = 100.0
"""Summaries close a minute after it is over: if none came by then, a part does not work."""
LEARN_MOST_S: Final = 150.0
"""Warming up ends here at the latest, with what is known by then."""
TELL_EVERY_S: Final = 15.0
"""Where there is no terminal: a line of progress this often."""
ACTIVE_AFTER_S: Final = 3.0
"""From a model's announcement until it counts, so that no worker is surprised."""


@dataclass(slots=True)
class Telling:
    """Waits, directs and watches; everything else happens by itself."""

    deployment: Deployment
    troupe: Troupe
    view: View
    running: list[Running] = field(default_factory=list)

    def warm_up(self) -> None:
        """Ordinary life, until the judge says that it has learned every service.

        Raises: DeploymentFailed when it says nothing at all, or there is nobody to learn from.
        """
        self.view.stage("warming up: ordinary life, until every image is learned")
        began_s = said_s = time.monotonic()
        while self.learned() < 1.0 and (now_s := time.monotonic()) < began_s + LEARN_MOST_S:
            if not self.view.notes.summaries and now_s > began_s + FIRST_WORD_S:
                raise DeploymentFailed(
                    f"no judgement within {FIRST_WORD_S:.0f} s: {self.deployment.log} says why"
                )
            if now_s > said_s + TELL_EVERY_S:
                said_s = now_s
                self._all_there()
                self.view.stage(f"warming up for {now_s - began_s:.0f} s: {self._progress()}")
            self._pass()
        self.view.stage(f"warmed up in {time.monotonic() - began_s:.0f} s: {self._progress()}")

    def learned(self) -> float:
        """0 to 1: how much is known of the service of which least is known."""
        return min(self._learned(service) for service in SERVICES)

    def train(self) -> None:
        """A forest from what was seen so far, active in a moment."""
        settings = self.deployment.settings
        kafka, topics = settings.kafka.librdkafka(), Topics(settings.topic_prefix)
        seen = training.window(kafka, topics.telemetry, settings.scope)
        now_ns = time.time_ns()
        active_from_ns = now_ns + int(ACTIVE_AFTER_S * SECOND_NS)
        manifest, content = training.train(
            seen, settings.scope, now_ns=now_ns, active_from_ns=active_from_ns
        )
        ModelStore(settings.models_dir).save(content)
        key, value = announced(manifest, Signer.load(settings.keys_dir, Role.TRAINER))
        producer = Producer({**kafka, "acks": "all"})
        producer.produce(topics.models, value, key, partition=ONLY_PARTITION)
        producer.flush()
        self.view.stage(f"model {manifest.uid}: an isolation forest of {manifest.rows} samples")
        self._while(lambda: time.time_ns() < active_from_ns)

    def live(self, seconds: float) -> None:
        """Life goes on for so long."""
        until_s = time.monotonic() + seconds
        self._while(lambda: time.monotonic() < until_s)

    def tell(self, stories: Iterable[Story]) -> None:
        """Each story at its time; then watch until all are over, or answered."""
        due = sorted(stories, key=lambda story: story.starts_s)
        began_s = time.monotonic()
        while due or not self._over():
            while due and time.monotonic() - began_s >= due[0].starts_s:
                story = due.pop(0)
                self.view.stage(f"{story.service}: {story.title}")
                self.running.append(begin(story, self.troupe))
            self._pass()

    def told(self) -> list[Told]:
        return [told(one, self.view.notes) for one in self.running]

    # ---- how far it is ----------------------------------------------------------------------

    def _learned(self, service: str) -> float:
        group = telemetry_key(self.deployment.settings.scope, lineage(self.troupe.run, service), "")
        with self.view.notes.lock:
            summary = self.view.notes.summaries.get(group)
        return 0.0 if summary is None else summary.learned

    def _all_there(self) -> None:
        if absent := self.troupe.absent():
            raise DeploymentFailed(
                f"{', '.join(absent)} no longer run: something else on this machine ended them, "
                "or the Docker engine was restarted; tell it again"
            )

    def _progress(self) -> str:
        return ", ".join(f"{service} {self._learned(service):.0%} learned" for service in SERVICES)

    def _over(self) -> bool:
        """A twin is watched to its end; a story until it was answered, or its time is up."""
        now_ns = time.time_ns()
        return all(
            now_ns >= one.watched_until_ns
            or (not one.story.twin and told(one, self.view.notes).right)
            for one in self.running
        )

    # ---- time -------------------------------------------------------------------------------

    def _while(self, waiting: Callable[[], bool]) -> None:
        while waiting():
            self._pass()

    def _pass(self) -> None:
        """A moment. Raises: DeploymentFailed when a part is gone."""
        self.deployment.check()
        self.view.draw(time.time_ns())
        time.sleep(DRAW_S)
