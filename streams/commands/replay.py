"""``plimsoll replay``: what a model, a policy or a budget would have decided."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from streams.commands.output import AsJson, print_json, show

MOST_LISTED: Final = 20


def command(
    since: Annotated[
        str, typer.Option("--from", help="Where the window begins: 6h (ago), a date; empty: all.")
    ] = "",
    until: Annotated[str, typer.Option("--until", help="Where it ends: now, 1h (ago).")] = "now",
    model: Annotated[
        str, typer.Option(help="Judge with this one; none: without any; empty: as it was.")
    ] = "",
    policy: Annotated[
        Path | None, typer.Option(help="Order by this policy file; else the one in the settings.")
    ] = None,
    alarms_per_day: Annotated[
        float | None, typer.Option(min=0.001, help="Budget; else the one in the settings.")
    ] = None,
    most_isolations: Annotated[
        int, typer.Option(min=0, help="More than so many, and the exit code is 1.")
    ] = 0,
    record: Annotated[
        bool, typer.Option("--record", help="Sign what it came to: a model needs it to promote.")
    ] = False,
    key: Annotated[str, typer.Option("--key", help="A trainer's or operator's key.")] = "trainer",
    as_json: AsJson = False,
) -> None:
    """Judge a past window again, and tell what would have been decided otherwise.

    The same code as live reads the telemetry from its beginning; what lies in the window is
    compared with the verdicts, findings and orders of that time. The policy counts as if its
    mode were enforce. With nothing changed, nothing differs.
    """
    job = _Job(since, until, model, policy, alarms_per_day)
    began_s = time.monotonic()
    decided, would = job.run(quiet=as_json)
    rehearsal = job.rehearsal(would, most_isolations, key)
    if record:
        job.announce(rehearsal, key)
    _tell(job, decided, would, rehearsal, time.monotonic() - began_s, as_json=as_json)
    raise typer.Exit(0 if rehearsal.passed else 1)


class _Job:
    """One replay as it was asked for."""

    def __init__(
        self, since: str, until: str, model: str, policy: Path | None, alarms_per_day: float | None
    ) -> None:
        from streams.commands.models import registry_of
        from streams.commands.times import moment
        from streams.settings import load

        self.settings = load(
            governor={"policy_file": policy}, worker={"alarms_per_day": alarms_per_day}
        )
        self.now_ns = time.time_ns()
        self.registry = registry_of(self.settings)
        self.model = self.registry.model(model).uid if model not in ("", "none") else model
        self._since, self._until = since, moment(until, self.now_ns)
        self.window = (moment(since, self.now_ns) if since else 0, self._until)

    def run(self, *, quiet: bool) -> tuple[Any, Any]:
        """What was decided, and what would have been."""
        from models.contract import Topics
        from streams.commands.progress import reading
        from streams.keys import TrustFile
        from streams.replaying import replayed
        from streams.stores.decided import decided

        settings, topics = self.settings, Topics(self.settings.topic_prefix)
        with reading("replaying", quiet=quiet) as progress:
            source = telemetry_of(settings, progress)
            asked, of_the_time = self._cores()
            would = replayed(
                source, asked, _policy(settings), settings.scope, self.window, of_the_time
            )
        trust = TrustFile(settings.keys_dir, time.time_ns)
        return decided(settings.kafka, topics, trust, settings.scope, self.window), would

    def _cores(self) -> tuple[Any, Any]:
        """The core that is asked about, and the one of the time where that differs."""
        of_the_time = core_of_the_time(self.settings, self.registry)
        if not self.model:
            return of_the_time, None
        return with_model(of_the_time, self.registry, self.model), of_the_time

    def rehearsal(self, would: Any, most_isolations: int, key: str) -> Any:
        from collections import Counter

        from models.records.manifest import Rehearsal
        from streams.policies import policy_digest

        settings = self.settings
        policy = policy_digest(settings)
        identity = f"{self.model}|{policy}|{self.window}|{settings.worker.alarms_per_day}|{key}"
        uid = hashlib.blake2b(f"{identity}|{self.now_ns}".encode(), digest_size=8).hexdigest()
        return Rehearsal(
            f"replay-{uid}", settings.scope, "" if self.model == "none" else self.model, policy,
            settings.worker.alarms_per_day, self.window[0], self.window[1], self.now_ns, key,
            would.samples, would.isolations, most_isolations,
            dict(Counter(one.verdict.level.value for one in would.alarms())),
            dict(Counter(order.action.value for order in would.orders)),
        )  # fmt: skip  # as the fields lie

    def announce(self, rehearsal: Any, key: str) -> None:
        from streams.keys import Signer

        self.registry.say(rehearsal, Signer.load(self.settings.keys_dir, key))


def telemetry_of(settings: Any, progress: Any) -> Any:
    """The telemetry topic to read back, with what people taught as the workers believe it."""
    from models.contract import Topics
    from streams.lessons import trusted
    from streams.stores.window import TelemetryLog

    topic = Topics(settings.topic_prefix).telemetry
    return TelemetryLog(settings.kafka.librdkafka(), topic, progress, trusted(settings.keys_dir))


def archived_of(settings: Any) -> Any:
    """The same from the archive: weeks later it is all that is left."""
    from models.contract import Topics
    from streams.archive.telemetry import ArchivedTelemetry
    from streams.lessons import trusted

    topic = Topics(settings.topic_prefix).telemetry
    return ArchivedTelemetry(settings.archive_dir, topic, trusted(settings.keys_dir))


def core_of_the_time(settings: Any, registry: Any) -> Any:
    """What workers judge with, from the models topic and the settings."""
    from models.pipeline import Core
    from streams.stores.models import roster_of

    roster = roster_of(registry.register, registry.store)
    detection = settings.worker.detection
    return Core(roster.models, detection)


def with_model(core: Any, registry: Any, model: str) -> Any:
    """The same with one model all the time, where it serves; none: without any."""
    from dataclasses import replace

    from models.pipeline import Models
    from streams.stores.models import forest_of

    if model == "none":
        return replace(core, models=Models((), core.models.shadows))
    manifest = registry.model(model)
    turns = ((0, forest_of(manifest, registry.store.load(manifest.sha256))),)
    if manifest.lineage:
        own = {**core.models.own, manifest.lineage: turns}
        return replace(core, models=replace(core.models, own=own))
    return replace(core, models=Models(turns, core.models.shadows))


def _policy(settings: Any) -> Any:
    from streams.policies import policy_of

    return policy_of(settings)


def _tell(
    job: _Job, decided: Any, would: Any, rehearsal: Any, took_s: float, *, as_json: bool
) -> None:
    from streams.replaying import compared

    found = compared(decided, would)
    if as_json:
        print_json(_document(job, decided, would, rehearsal, found, took_s))
        return
    from streams.commands.cards import counted, rehearsed

    rows = [
        {"image": row.image, "level": row.level, "decided": row.decided, "would": row.would}
        for row in found.rows
    ]
    show(rows, as_json=False, empty="no alarms, neither then nor now")
    typer.echo(f"{found.same} alarms the same, {len(found.new)} new, {len(found.gone)} gone")
    for mark, verdicts in (("+", found.new), ("-", found.gone)):
        for verdict in verdicts[:MOST_LISTED]:
            typer.echo(f"{mark} {_line(verdict)}")
    was = counted(_actions(decided.orders))
    typer.echo(f"orders: {was} decided; {counted(rehearsal.orders)} would have been given")
    if would.unjudged:
        typer.echo(f"{would.unjudged} records could not be judged, as then", err=True)
    typer.echo(rehearsed(rehearsal))
    typer.echo(f"{took_s:.0f} s in all")


def _line(verdict: Any) -> str:
    from streams.commands.times import clock
    from streams.report.words import clean

    why = verdict.reasons[0].text if verdict.reasons else ""
    return clean(f"{clock(verdict.at_ns)} {verdict.level} {verdict.name or verdict.subject}: {why}")


def _actions(orders: Any) -> dict[str, int]:
    from collections import Counter

    return dict(Counter(order.action.value for order in orders))


def _document(
    job: _Job, decided: Any, would: Any, rehearsal: Any, found: Any, took_s: float
) -> dict[str, Any]:
    return {
        "window": {"from_ns": job.window[0], "until_ns": job.window[1]},
        "model": job.model or "as it was",
        "alarms": [
            {"image": r.image, "level": r.level, "decided": r.decided, "would": r.would}
            for r in found.rows
        ],
        "same": found.same,
        "new": list(found.new),
        "gone": list(found.gone),
        "orders": {"decided": _actions(decided.orders), "would": rehearsal.orders},
        "rehearsal": rehearsal,
        "passed": rehearsal.passed,
        "unjudged": would.unjudged,
        "took_s": took_s,
    }
