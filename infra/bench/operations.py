"""What ordinary operations on real containers look like: ``python -m infra.bench.operations``.

The demonstration's twelve containers live their calm life on this machine's Docker engine,
watched by the whole line on a real Kafka; once they are learned, they are deployed, scaled,
restarted, paused and looked into as people and their tools do all day. All that is said of
them, or of the host, is printed; above *watch* it is a false alarm, and the exit code 1.
"""

from __future__ import annotations

import io
import sys
import tarfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from rich.console import Console

from infra.demo import machine
from infra.demo.containers import MEMORY_BYTES, PARTNER, PORT, SIBLINGS, STRANGER, Troupe
from infra.demo.deployment import Deployment
from infra.demo.remote import RemoteHosts
from infra.demo.telling import Telling
from models.contract import Topics
from models.records.verdict import Level
from streams.demo.notes import Notes, NoteTaker
from streams.demo.view import View

AFTER_S: Final = 20.0
"""Between two operations: some looks, and a verdict."""
LIVED_S: Final = 60.0
"""How long all goes on as usual, before the first and after the last."""


@dataclass(frozen=True, slots=True)
class Hands:
    """Those of people and their tools."""

    client: Any
    troupe: Troupe

    def container(self, service: str, number: int) -> Any:
        return self.client.containers.get(self.troupe.name(service, number))

    def replace(self, service: str, number: int, version: int = 1, **options: Any) -> None:
        self.container(service, number).remove(force=True)
        self.troupe.start(service, number, version, **options)

    def each(self, service: str) -> Iterator[Any]:
        return (self.container(service, number) for number in range(1, SIBLINGS + 1))

    def direct(self, service: str, word: str) -> None:
        for number in range(1, SIBLINGS + 1):
            self.troupe.direct(self.troupe.actor(service, number), word)


def deploy_again(hands: Hands) -> None:
    hands.replace("search", 2)


def roll_out(hands: Hands) -> None:
    hands.troupe.build("orders", 2)
    check = {"test": ["CMD-SHELL", "wc -c /service"], "interval": 3 * 10**9}
    for number in range(1, SIBLINGS + 1):
        hands.replace("orders", number, 2, healthcheck=check)
        time.sleep(5.0)  # as rollouts do


def scale_out(hands: Hands) -> None:
    for number in (4, 5):
        hands.troupe.start("web", number)


def scale_in(hands: Hands) -> None:
    for number in (5, 4):
        hands.container("web", number).remove(force=True)


def restart(hands: Hands) -> None:
    hands.container("orders", 1).restart(timeout=2)


def restart_all(hands: Hands) -> None:
    for one in hands.each("notifier"):
        one.restart(timeout=1)


def end_and_start(hands: Hands) -> None:
    one = hands.container("notifier", 3)
    one.kill("SIGTERM")
    one.wait()
    one.start()


def kill_and_start(hands: Hands) -> None:
    one = hands.container("web", 2)
    one.kill()
    one.start()


def call_from_the_host(hands: Hands) -> None:
    for one in hands.each("web"):
        address = one.attrs["NetworkSettings"]["Networks"][hands.troupe.network]["IPAddress"]
        urllib.request.urlopen(f"http://{address}:8080/", timeout=5).read()


def look_into(hands: Hands) -> None:
    one = hands.container("web", 2)
    one.logs(tail=5)
    one.top()
    one.stats(stream=False)
    one.diff()


def copy_in(hands: Hands) -> None:
    body, content = b"level = debug\n", io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo("settings.txt")
        entry.size = len(body)
        tar.addfile(entry, io.BytesIO(body))
    hands.container("notifier", 1).put_archive("/var", content.getvalue())


def another_network(hands: Hands) -> None:
    network = hands.client.networks.create(f"side-{hands.troupe.run}", labels=hands.troupe.marks)
    one = hands.container("search", 3)
    network.connect(one)
    time.sleep(5.0)  # for a look
    network.disconnect(one)
    network.remove()


def pause(hands: Hands) -> None:
    one = hands.container("notifier", 2)
    one.pause()
    time.sleep(5.0)  # paused for as long
    one.unpause()


def less_memory(hands: Hands) -> None:
    hands.container("web", 1).update(mem_limit=MEMORY_BYTES // 2, memswap_limit=MEMORY_BYTES)


def busy(hands: Hands) -> None:
    hands.direct("web", "spike")


def calm(hands: Hands) -> None:
    hands.direct("web", "calm")


def one_off(hands: Hands) -> None:
    """As ``docker compose run`` does it."""
    service = {"com.docker.compose.service": "orders", "com.docker.compose.oneoff": "True"}
    image = hands.container("orders", 1).attrs["Config"]["Image"]
    for _ in range(2):
        done = hands.client.containers.run(
            image, ["/bin/sh", "-c", "sleep 3; ls / >/tmp/migrated"], detach=True,
            name=f"migrate-{hands.troupe.run}", network=hands.troupe.network,
            labels={**hands.troupe.marks, **service},
        )  # fmt: skip  # one call, one thought
        done.wait()
        done.remove()


OPERATIONS: Final[tuple[Callable[[Hands], None], ...]] = (
    deploy_again, call_from_the_host, roll_out, scale_out, restart, look_into, scale_in, busy,
    another_network, calm, restart_all, one_off, end_and_start, less_memory, kill_and_start,
    pause, copy_in,
)  # fmt: skip  # a list


def main() -> int:
    """Exit codes: 0 nothing above *watch*; 1 something; 2 it can't be told here."""
    try:
        machine.check()
    except machine.DemoUnavailable as problem:
        sys.stderr.write(f"it can't be told here: {problem}\n")
        return 2
    run = machine.new_run()
    with machine.engine() as client, ExitStack() as undo:
        undo.enter_context(machine.directory(run.scratch))
        undo.enter_context(machine.flow_accounting())
        remote = undo.enter_context(RemoteHosts(run.name, (PARTNER, STRANGER), (PORT,)))
        troupe = undo.enter_context(Troupe(client, run.name, remote, run.scratch / "stage"))
        deployment = undo.enter_context(Deployment(run.name, run.scratch, run.kept))
        notes = undo.enter_context(_notes(deployment))
        view = undo.enter_context(View(Console(stderr=True), notes, "real time"))
        telling = Telling(deployment, troupe, view)
        telling.warm_up()
        telling.train()
        _live(telling, Hands(client, troupe))
    return _tell(notes)


@contextmanager
def _notes(deployment: Deployment) -> Iterator[Notes]:
    settings = deployment.settings
    taker = NoteTaker(settings.kafka.librdkafka(), Topics(settings.topic_prefix))
    try:
        yield taker.notes
    finally:
        taker.close()


def _live(telling: Telling, hands: Hands) -> None:
    telling.live(LIVED_S)
    for operation in OPERATIONS:
        telling.view.stage(operation.__name__.replace("_", " "))
        operation(hands)
        telling.live(AFTER_S)
    telling.live(LIVED_S)


def _tell(notes: Notes) -> int:
    with notes.lock:
        findings, orders = list(notes.findings), list(notes.orders.values())
    raised = [one.verdict for one in findings if one.verdict.level.rank > one.before.rank]
    levels = Counter(str(verdict.level) for verdict in raised)
    body = {
        "operations": len(OPERATIONS), "raised": dict(levels), "orders": len(orders),
        "findings": [
            {"level": one.level, "who": one.name or one.subject,
             "why": [reason.text for reason in one.reasons[:3]]} for one in raised
        ],
    }  # fmt: skip  # a record
    sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")
    return int(any(one.level.rank > Level.WATCH.rank for one in raised))


if __name__ == "__main__":
    sys.exit(main())
