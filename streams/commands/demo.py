"""``plimsoll demo``: the main job on an embedded broker, with a simulated fleet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.commands.output import AsJson, print_json


def command(
    seed: Annotated[int, typer.Option(help="The same seed tells the same demo.")] = 7,
    story: Annotated[
        list[str] | None, typer.Option(help="Tell only this story; may be repeated.")
    ] = None,
    pace: Annotated[
        float, typer.Option(min=0.05, help="Wall seconds for five seconds of event time.")
    ] = 0.25,
    directory: Annotated[
        Path | None, typer.Option(help="Where logs and reports go; else a new one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A simulated fleet, attacked and answered, on a broker of its own.

    No Docker, no Java, no root. Gather, judge and governor run as they do in a deployment;
    the fleet, its time and the broker are simulated. Ends with 1 if any story went wrong.
    """
    from streams.demo.stage import new_directory
    from streams.meters import configure_logs

    place = directory or new_directory()
    place.mkdir(parents=True, exist_ok=True)
    with (place / "demo.log").open("w") as log:
        configure_logs("info", "json", log)  # the screen belongs to the view
        right = _shown(place, seed, story, pace, as_json)
    raise typer.Exit(0 if right else 1)


def _shown(place: Path, seed: int, names: list[str] | None, pace: float, as_json: bool) -> bool:
    from streams.demo.director import Director, simulated_fleet
    from streams.demo.ending import figures, reports
    from streams.demo.stage import Stage
    from streams.demo.view import View, console_for

    began_s, console = time.monotonic(), console_for(as_json)
    fleet = simulated_fleet(seed, _midnight_ns())
    with Stage(place, fleet) as stage, View(console, stage.notes.notes) as view:
        director = Director(fleet, stage, view, pace)
        director.warm_up()
        director.train()
        director.tell(names or [one.name for one in fleet.stories])
        director.settle()
        stories = director.told()
        written = reports(stage, stories)
        last = figures(director, time.monotonic() - began_s)
    if as_json:
        print_json({"stories": [one.plain() for one in stories], "reports": written, **last})
    else:
        _print(console, stories, written, last)
    return bool(stories) and all(one.right for one in stories)


def _midnight_ns() -> int:
    """The simulated day begins at the last midnight, so that its dates look like today's."""
    day_s = 86_400
    return int(time.time()) // day_s * day_s * 10**9


def _print(console: Any, stories: Any, written: list[str], last: dict[str, Any]) -> None:
    from streams.demo.view import closing

    console.print(closing(stories))
    for report in written:
        console.print(f"report: {report}", soft_wrap=True, highlight=False)
    console.print(
        f"{last['samples']} samples of {last['event_time_s']:.0f} s judged in "
        f"{last['wall_s']:.0f} s; {last['rejected']} records rejected; logs in "
        f"{last['directory']}",
        soft_wrap=True, highlight=False,
    )  # fmt: skip  # one sentence
