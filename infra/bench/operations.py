"""What ordinary operations on real containers look like: ``python -m infra.bench.operations``.

The demonstration's twelve containers, and nine that live as others' do, lead their calm life on
this machine's Docker engine, watched by the whole line on a real Kafka; once they are learned,
they are deployed, scaled, restarted, paused and looked into as people and their tools do all
day, and the host with them. All that is said of them, or of the host, is printed; above *watch*
it is a false alarm, and the exit code 1.
"""

from __future__ import annotations

import io
import socket
import sys
import tarfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from infra.bench.bystanders import Bystanders
from infra.bench.watched import MIRROR, Place, told
from infra.demo.containers import MEMORY_BYTES, PARTNER, PORT, SIBLINGS, Troupe
from infra.demo.telling import Telling
from infra.images import busybox
from models.records.verdict import Level
from streams.demo.notes import Notes

AFTER_S: Final = 20.0
"""Between two operations: some looks, and a verdict."""
LIVED_S: Final = 60.0
"""How long all goes on as usual, before the first and after the last."""


@dataclass(frozen=True, slots=True)
class Hands:
    """Those of people and their tools."""

    client: Any
    troupe: Troupe
    others: Bystanders
    mirror: str

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


def all_anew(hands: Hands, service: str, pause_s: float) -> None:
    """All of a service's containers go, and come again."""
    for one in hands.each(service):
        one.remove(force=True)
    time.sleep(pause_s)  # as long as the service was not asked for
    for number in range(1, SIBLINGS + 1):
        hands.troupe.start(service, number)


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


def down_and_up(hands: Hands) -> None:
    all_anew(hands, "search", 0.0)


def scale_to_zero(hands: Hands) -> None:
    all_anew(hands, "notifier", AFTER_S)


def new_setting(hands: Hands) -> None:
    for number in (2, 3):
        hands.replace("web", number, environment={"FEATURE": "on"})


def another_start(hands: Hands) -> None:
    """A release that is started by another command, by a program that it brings."""
    hands.troupe.build("search", 2, {"/usr/bin/busybox": busybox()})
    for number in range(1, SIBLINGS + 1):
        hands.replace("search", number, 2, command=["/usr/bin/busybox", "sh", "/life.sh"])
        time.sleep(5.0)  # as rollouts do


def release_on_a_volume(hands: Hands) -> None:
    hands.others.put_on_volume(busybox() + b"\0")
    for number in range(1, SIBLINGS + 1):
        hands.others.get(f"volume-{number}").restart(timeout=1)


def unpack_again(hands: Hands) -> None:
    for number in (1, 2):
        hands.others.get(f"unpacks-{number}").restart(timeout=1)
    hands.others.get("unpacks-3").remove(force=True)
    hands.others.start_unpacking(3)


def sidecar(hands: Hands) -> None:
    hands.others.start_sidecar(hands.container("web", 1))


def sidecar_ends(hands: Hands) -> None:
    hands.others.get("sidecar").remove(force=True)


def debug(hands: Hands) -> None:
    hands.others.debug(hands.container("web", 3))


def agent_on_the_host(hands: Hands) -> None:
    hands.others.start_agent()


def build_an_image(hands: Hands) -> None:
    """Each step runs in a container, which makes programs and runs them."""
    made = '"mkdir /made; cp /bin/busybox /made; /made/busybox sleep 5"'
    steps = (f"FROM {hands.troupe.run}/volume:1", *labels(hands), f'RUN ["/bin/sh", "-c", {made}]')
    file = io.BytesIO("\n".join(steps).encode())
    hands.client.images.build(fileobj=file, tag=f"{hands.troupe.run}/made:1", rm=True)


def labels(hands: Hands) -> list[str]:
    """So that an image goes when the troupe does."""
    return [f'LABEL {name}="{value}"' for name, value in hands.troupe.marks.items()]


def fetch_on_the_host(hands: Hands) -> None:
    for _ in range(3):
        with socket.create_connection((hands.mirror, PORT)) as one:
            one.sendall(b"GET / HTTP/1.0\r\n\r\n")
            one.shutdown(socket.SHUT_WR)
            while one.recv(1 << 16):
                pass


def serve_on_the_host(_hands: Hands) -> None:
    with socket.create_server(("127.0.0.1", 0)):
        time.sleep(12.0)  # for a look at what listens


def back_up(hands: Hands) -> None:
    one = hands.container("orders", 2)
    image = one.commit(f"{hands.troupe.run}/backup", "1", changes=labels(hands))
    for _ in image.save():
        pass
    for _ in one.get_archive("/www")[0]:
        pass


def limit_and_rename(hands: Hands) -> None:
    hands.container("web", 1).update(cpu_period=100_000, cpu_quota=50_000)
    one = hands.others.get("job-3")
    one.rename(f"renamed-{hands.troupe.run}")


OPERATIONS: Final[tuple[Callable[[Hands], None], ...]] = (
    deploy_again, call_from_the_host, fetch_on_the_host, unpack_again, roll_out, scale_out,
    release_on_a_volume, sidecar, restart, look_into, scale_in, debug, busy, sidecar_ends,
    another_network, agent_on_the_host, calm, restart_all, build_an_image, one_off, end_and_start,
    scale_to_zero, less_memory, kill_and_start, pause, serve_on_the_host, copy_in, back_up,
    limit_and_rename, down_and_up, new_setting, another_start,
)  # fmt: skip  # a list


def main() -> int:
    """Exit codes: 0 nothing above *watch*; 1 something; 2 it can't be told here."""
    return told(_play, lambda place: _others(place).settle())


def _others(place: Place) -> Bystanders:
    partner = place.remote.address(PARTNER)
    return Bystanders(place.client, place.troupe, place.scratch / "volume", partner)


def _play(place: Place, telling: Telling, notes: Notes) -> int:
    hands = Hands(place.client, place.troupe, _others(place), place.remote.address(MIRROR))
    telling.live(LIVED_S)
    for operation in OPERATIONS:
        telling.view.stage(operation.__name__.replace("_", " "))
        operation(hands)
        telling.live(AFTER_S)
    telling.live(LIVED_S)
    return _tell(notes)


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
