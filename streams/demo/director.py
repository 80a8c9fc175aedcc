"""The demo from curtain to curtain: warm up, train, tell the stories, look at what was done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final

from streams import training
from streams.demo.script import Fleet, Running, Told, told
from streams.demo.stage import DemoFailed, Stage
from streams.demo.view import View

STEP_S: Final = 5.0
"""Event time between two frames of a host."""
WARM_UP_S: Final = 30 * 60.0
MOST_UNREAD: Final = {"frames": 16, "telemetry": 140}
"""How many records the fleet may run ahead, in any partition: a frame is near 100 KB, a record
of telemetry some 8 KB, several times that where gather has fallen behind and makes one of many;
and the embedded broker keeps 5 MB."""
PATIENCE_S: Final = 60.0
"""Wall time without any progress after which something is broken."""
ACTIVE_AFTER_S: Final = 30.0
"""Event time from a model's announcement until it counts, so that no worker is surprised."""
SETTLE_S: Final = 120.0
"""Event time after the last story in which what is under way is finished."""


@dataclass(slots=True)
class Director:
    """Moves the fleet's time, at the pace that the pipeline, and the reader, can follow."""

    fleet: Fleet
    stage: Stage
    view: View
    pace_s: float
    """Wall time for one step while stories are told."""
    start_ns: int = field(init=False)
    running: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start_ns = self.fleet.now_ns()

    def warm_up(self) -> None:
        """Half an hour of ordinary life, as fast as the judge follows."""
        self.view.stage("warming up: half an hour of ordinary life")
        while self._elapsed_s(self.start_ns) < WARM_UP_S:
            self._step()

    def train(self) -> None:
        """A forest from what was seen so far, active from a stated event time."""
        self.view.stage("training an isolation forest on the deviations seen so far")
        self._until_read(dict.fromkeys(MOST_UNREAD, 0))
        stage, now_ns = self.stage, self.fleet.now_ns()
        kafka, scope = stage.settings.kafka.librdkafka(), stage.settings.scope
        seen = training.window(kafka, stage.topics.telemetry, scope)
        active_from_ns = now_ns + int(ACTIVE_AFTER_S * 1e9)
        manifest, content = training.train(
            seen, scope, now_ns=now_ns, active_from_ns=active_from_ns
        )
        stage.publish(manifest, content)
        self.view.stage(
            f"model {manifest.uid}: 100 trees of {manifest.rows} samples, active from "
            f"{ACTIVE_AFTER_S:.0f} s of event time on"
        )
        while self.fleet.now_ns() < active_from_ns:
            self._paced_step()

    def tell(self, names: Iterable[str]) -> None:
        """All stories, each at its time; twins run beside them on images of their own."""
        due = sorted((s for s in self.fleet.stories if s.name in set(names)), key=_starts)
        began_ns = self.fleet.now_ns()
        self.view.stage("stories, each with its benign twin")
        while due or not self._over():
            while due and self._elapsed_s(began_ns) >= due[0].starts_s:
                self.running.append(self.fleet.begin(due.pop(0).name))
            self._paced_step()

    def settle(self) -> None:
        """Let what is under way be finished and told."""
        self.view.stage("waiting for the last answers")
        end_ns = self.fleet.now_ns() + SETTLE_S * 1e9
        while self.fleet.now_ns() < end_ns and not all(one.right for one in self.told()):
            self._paced_step()

    def told(self) -> list[Told]:
        """Each story followed by its twin, as the fleet lists them."""
        notes, order = self.stage.notes.notes, [one.name for one in self.fleet.stories]
        running = sorted(self.running, key=lambda one: order.index(one.story.name))
        return [told(one, notes) for one in running]

    # ---- time -------------------------------------------------------------------------------

    def _step(self) -> None:
        self.stage.write(self.fleet.step(STEP_S))
        self.view.draw(self.fleet.now_ns())
        self._until_read(MOST_UNREAD)

    def _paced_step(self) -> None:
        began_s = time.monotonic()
        self.stage.check()
        self._step()
        time.sleep(max(0.0, self.pace_s - (time.monotonic() - began_s)))

    def _elapsed_s(self, since_ns: int) -> float:
        return (self.fleet.now_ns() - since_ns) / 1e9

    def _until_read(self, most: Mapping[str, int]) -> None:
        """Wait for the parts. Raises: DemoFailed when they get nowhere."""
        unread, moved_s = self.stage.unread(), time.monotonic()
        while any(unread[name] > most[name] for name in most):
            self.stage.check()
            if time.monotonic() - moved_s > PATIENCE_S:
                raise DemoFailed(
                    f"nothing read for {PATIENCE_S:.0f} s: the logs in {self.stage.directory} "
                    "say why"
                )
            self.view.draw(self.fleet.now_ns())
            time.sleep(0.05)
            before, unread = unread, self.stage.unread()
            moved_s = moved_s if unread == before else time.monotonic()

    def _over(self) -> bool:
        return all(self.fleet.now_ns() >= one.watched_until_ns for one in self.running)


def _starts(story: Any) -> float:
    return float(story.starts_s)


def simulated_fleet(seed: int, start_ns: int) -> Fleet:
    """The fleet, by its entry point: streams and producers do not import each other."""
    found = entry_points(group="plimsoll.fleets", name="simulated")
    if not found:
        raise DemoFailed("the simulated fleet is not installed: install Plimsoll anew")
    fleet: Fleet = found["simulated"].load()(seed, start_ns)
    return fleet
