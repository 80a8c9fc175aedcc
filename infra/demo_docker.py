"""``python -m infra.demo_docker``: real containers, attacked and answered, on a real Kafka.

Twelve containers of four services live an ordinary life on this machine's Docker engine; all
parts of Plimsoll run as they do in a deployment. Then one container sends its data away, one
runs a program that its image does not have, one leaks memory, and one service has a busy
minute. Exit codes: 0 all went right; 1 something went wrong; 2 it can't be told here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from infra.demo import machine
from infra.demo.containers import PARTNER, PORT, STRANGER, Troupe
from infra.demo.deployment import Deployment, DeploymentFailed
from infra.demo.interruptions import attend, deafen
from infra.demo.looks import Look, looks
from infra.demo.machine import DemoUnavailable, Run
from infra.demo.remote import RemoteHosts
from infra.demo.stories import STORIES, Story
from infra.demo.telling import Telling
from models.errors import PlimsollError
from streams.commands.output import print_json
from streams.demo.script import Told
from streams.demo.view import View, closing, console_for

INTERRUPTED: Final = 130


def command(
    story: Annotated[
        list[str] | None, typer.Option(help="Tell only this story; may be repeated.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Real containers on a real engine and a real Kafka: attacked, judged, answered, verified.

    Needs root, Java 17, Maven, and a Docker engine or the means to install one. Leaves the
    machine as it found it; only a directory with logs and reports stays.
    """
    chosen = _chosen(story or [])
    attend()
    try:
        document = demo(chosen, console_for(as_json))
    except DemoUnavailable as problem:
        _end(f"it can't be told here: {problem}", 2)
    except (DeploymentFailed, PlimsollError) as problem:
        _end(str(problem), 1)
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED)
    if as_json:
        print_json(document)
    raise typer.Exit(0 if document["right"] else 1)


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of it all."""

    told: Sequence[Told]
    looks: Sequence[Look]
    reports: Sequence[str]
    samples: int
    rejected: int

    @property
    def right(self) -> bool:
        stories, seen = all(one.right for one in self.told), all(one.right for one in self.looks)
        return bool(self.told) and stories and seen

    def plain(self) -> dict[str, Any]:
        return {
            "stories": [one.plain() for one in self.told],
            "looks": [one.plain() for one in self.looks],
            "reports": list(self.reports), "samples": self.samples, "rejected": self.rejected,
            "right": self.right,
        }  # fmt: skip  # one thought a line


def demo(stories: Sequence[Story], console: Console) -> dict[str, Any]:
    """Tell the stories; the document that ``--json`` prints.

    Raises: DemoUnavailable; DeploymentFailed, also when something was left behind.
    """
    machine.check()
    began_s, run = time.monotonic(), machine.new_run()
    with machine.engine() as client:
        try:
            ending = _told(client, run, stories, console)
        finally:
            left = machine.leftovers(client, run)
            logs = f"; logs in {run.kept}" if machine.worth_keeping(run) else ""
            _say(console, f"-- left behind: {', '.join(left) or 'nothing'}{logs}")
    if left:
        raise DeploymentFailed(f"left behind: {', '.join(left)}; remove them by hand")
    wall_s = round(time.monotonic() - began_s, 1)
    _show(console, ending, wall_s)
    return {**ending.plain(), "wall_s": wall_s, "directory": str(run.kept)}


def _told(client: Any, run: Run, stories: Sequence[Story], console: Console) -> Ending:
    """Set up, tell, look; on the way out, whatever happened, put everything back."""
    with ExitStack() as undo, _deaf_afterwards():
        undo.callback(_say, console, "-- everything is put back")
        undo.enter_context(machine.directory(run.scratch))
        undo.enter_context(machine.flow_accounting())
        _say(console, "-- starting twelve containers, Apache Kafka and all parts of Plimsoll")
        remote = undo.enter_context(RemoteHosts(run.name, (PARTNER, STRANGER), (PORT,)))
        troupe = undo.enter_context(Troupe(client, run.name, remote, run.scratch / "stage"))
        deployment = undo.enter_context(Deployment(run.name, run.scratch, run.kept))
        taker = undo.enter_context(deployment.note_taker())
        view = undo.enter_context(View(console, taker.notes, "real time"))
        telling = Telling(deployment, troupe, view)
        telling.warm_up()
        telling.train()
        telling.tell(stories)
        view.stage("looking with our own eyes: at the far end, and at the engine")
        seen, told = looks(telling.running, troupe, remote), telling.told()
        reports = _reports(deployment, told, run.kept)
        counted, rejected = taker.notes.counted["samples"], len(taker.notes.rejected)
        return Ending(told, seen, reports, counted, rejected)


def _reports(deployment: Deployment, told: Sequence[Told], kept: Path) -> list[str]:
    """An HTML file for each incident that was answered."""
    written = []
    for one in told:
        if one.incident:
            out = kept / f"{one.story}.html"
            deployment.run("incident", "report", one.incident, "--out", str(out))
            written.append(str(out))
    return written


@contextmanager
def _deaf_afterwards() -> Iterator[None]:
    try:
        yield
    finally:
        deafen()


def _chosen(names: Sequence[str]) -> tuple[Story, ...]:
    known = {story.name: story for story in STORIES}
    if strange := sorted(set(names) - known.keys()):
        raise typer.BadParameter(
            f"there is no story {', '.join(strange)}; choose from {', '.join(known)}"
        )
    return tuple(known[name] for name in names) or STORIES


def _show(console: Console, ending: Ending, wall_s: float) -> None:
    console.print(closing(ending.told))
    for look in ending.looks:
        mark = Text("seen" if look.right else "NOT AS REPORTED", "green" if look.right else "red")
        console.print(mark, Text(f"{look.story}: {look.seen}"), soft_wrap=True)
    for report in ending.reports:
        _say(console, f"report: {report}")
    _say(console, f"{ending.samples} samples judged, {ending.rejected} records rejected, "
                  f"{wall_s:.0f} s in all")  # fmt: skip  # one sentence


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _end(why: str, code: int) -> NoReturn:
    typer.echo(f"demo-docker: {why}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    typer.run(command)
