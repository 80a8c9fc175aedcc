"""``plimsoll explain``: why a container was found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any, Final

import typer

from streams.commands.output import AsJson, print_json, show

MOST_TRAITS: Final = 8


def command(
    target: Annotated[str, typer.Argument(help="An incident, a container's name or id.")],
    since: Annotated[
        str, typer.Option("--from", help="How far back to look for verdicts: 24h (ago), a date.")
    ] = "24h",
    again: Annotated[
        bool, typer.Option("--replay", help="Judge its lineage again up to that moment; show all.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Why a container was found: what was measured, what is normal, what its siblings do.

    Told is the verdict that turned it: the first of the highest level, before anybody answered;
    where a later one scored higher, that one as well. With --replay every feature is shown as
    the judge saw it then, with the forest's part by path attribution.
    """
    from streams.report.rows import reasons
    from streams.settings import load

    settings = load()
    course, incident = _course(settings, target, since)
    turning, worst = course.turning, course.worst
    seen = _looked_at(settings, turning, quiet=as_json) if again else None
    if as_json:
        print_json({
            "incident": incident, "verdict": turning, "strongest": worst, "replayed": again,
            "portrait": seen,
            "course": [{"at_ns": one.at_ns, "level": one.level, "score": one.score,
                        "model": one.model} for one in course.verdicts],
        })  # fmt: skip  # one document
        return
    for line in _said(course, incident):
        typer.echo(line)
    show(reasons(turning), as_json=False)
    if worst is not turning:
        typer.echo(f"\nits strongest verdict, {_when(worst)}: score {worst.score:.2f}")
        show(reasons(worst), as_json=False)
    if again:
        typer.echo("")
        _show_portrait(seen)


def _course(settings: Any, target: str, since: str) -> tuple[Any, str]:
    from models.contract import Topics
    from models.records.verdict import Verdict
    from streams.commands.times import moment
    from streams.explaining import course_of
    from streams.stores.decided import findings, said

    topics, from_ns = Topics(settings.topic_prefix), moment(since, time.time_ns())
    incident = ""
    if target.startswith("inc-"):
        from streams.keys import TrustFile
        from streams.stores.incidents import Incidents

        trust = TrustFile(settings.keys_dir, time.time_ns)
        story = Incidents(settings.kafka, topics, trust).story(target)
        incident, target = story.uid, story.subject
        from_ns = min(from_ns, story.created_ms * 10**6)
    spoken = [one for one in said(settings.kafka, topics, from_ns) if isinstance(one, Verdict)]
    spoken += [one.verdict for one in findings(settings.kafka, topics, from_ns)]
    return course_of((one for one in spoken if one.scope == settings.scope), target), incident


def _looked_at(settings: Any, verdict: Any, *, quiet: bool) -> Any:
    from streams.commands.models import registry_of
    from streams.commands.progress import reading
    from streams.commands.replay import core_of_the_time, telemetry_of
    from streams.explaining import looked_at

    core = core_of_the_time(settings, registry_of(settings))
    with reading("replaying", quiet=quiet) as progress:
        return looked_at(telemetry_of(settings, progress), core, verdict)


def _said(course: Any, incident: str) -> Iterator[str]:
    from streams.commands.times import clock
    from streams.report.words import clean

    one = course.turning
    yield clean(f"{one.name or one.subject[:12]} is {one.level}: score {one.score:.2f}")
    yield clean(f"  image      {one.image}" + (f", role {one.role}" if one.role else ""))
    yield clean(f"  container  {one.subject} on host {one.host}")
    yield f"  judged at  {_when(one)}"
    yield f"  model      {one.model or 'none: distance alone'}"
    if incident:
        yield f"  incident   {incident}"
    steps = [next(same) for _, same in groupby(course.verdicts, lambda one: one.level)]
    yield "  course     " + ", ".join(f"{clock(s.at_ns)[11:]} {s.level}" for s in steps[-6:])
    yield ""


def _when(one: Any) -> str:
    from streams.commands.times import clock

    return f"{clock(one.at_ns)} UTC, after {(one.at_ns - one.from_ns) / 1e9:.0f} s"


def _show_portrait(seen: Any) -> None:
    from streams.report.rows import trait

    if seen is None:
        typer.echo("the log no longer leads to that verdict: retention has taken what came before")
        return
    surprise = "no forest" if seen.surprise is None else f"forest surprise {seen.surprise:.1f} nats"
    typer.echo(f"as it was judged: {seen.siblings} siblings, line {seen.line:.1f}, {surprise}")
    show([trait(one) for one in seen.traits[:MOST_TRAITS]], as_json=False)
