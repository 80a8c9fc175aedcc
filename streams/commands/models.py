"""``plimsoll models``: list, show, promote, roll back and retire what was trained."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from streams.commands.output import AsJson, print_json, show

command = typer.Typer(
    help="List, show, compare, promote, roll back and retire models.", no_args_is_help=True
)

Model = Annotated[str, typer.Argument(help="A model's id, or the beginning of it.")]
From = Annotated[
    str, typer.Option("--from", help="Event time from which it holds: +30s, a date (UTC).")
]
Because = Annotated[str, typer.Option(help="Why; stands in the record.")]
Key = Annotated[str, typer.Option("--key", help="A trainer's or operator's key in keys_dir.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be said; say nothing.")]


@command.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Every model that was announced, the newest first, and what is used now."""
    registry, now_ns = _registry(), time.time_ns()
    rows = [_row(registry, one, now_ns) for one in _newest_first(registry)]
    if as_json:
        refused = [{"record": one.record, "why": one.why} for one in registry.refused]
        print_json({"models": rows, "refused": refused})
        return
    show(rows, as_json=False, empty="no models: `plimsoll train` makes one")
    for one in registry.refused:
        typer.echo(f"refused {one.record}: {one.why}", err=True)


@command.command("show")
def show_one(model: Model, as_json: AsJson = False) -> None:
    """A model's card: window, features, versions, how it did, and its turns.

    Exit code 1 when its file is not what the card says.
    """
    from streams.commands.cards import card

    registry = _registry()
    manifest, turns = registry.model(model), _turns(registry, model)
    problem = _file_problem(registry, manifest)
    if as_json:
        print_json({"manifest": manifest, "turns": turns, "file": problem or "as it should be"})
    else:
        for line in card(manifest):
            typer.echo(line)
        for turn in turns:
            why = "; ".join(filter(None, (turn["because"], turn["replay"])))
            typer.echo(f"  {turn['stage']:9} from {turn['from']} by {turn['by']}: {why or 'said'}")
        if problem:
            typer.echo(problem, err=True)
    raise typer.Exit(1 if problem else 0)


@command.command()
def compare(
    one: Annotated[str, typer.Argument(help="The active model (or none).")],
    other: Annotated[str, typer.Argument(help="The one that is to replace it.")],
    since: Annotated[
        str, typer.Option("--from", help="How far back to look: 24h (ago), a date.")
    ] = "24h",
    until: Annotated[str, typer.Option(help="Where to stop: now, 1h (ago).")] = "now",
    again: Annotated[
        bool, typer.Option("--replay", help="Judge the window with each: tickets, isolations.")
    ] = False,
    archive: Annotated[
        bool, typer.Option("--archive", help="The same, from the archive: older windows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Where two models differ, image by image.

    From what workers counted while OTHER was in shadow beside ONE: samples that one forest
    alone puts past the line and the other does not, and how their surprises correlate. A sample
    is no alarm: levels hang on time and facts, too. With --replay (or --archive) both judge the
    window: how often each would call somebody, and what it would isolate by the policy in force.
    """
    from streams.commands.comparing import by_replay, by_shadow
    from streams.commands.times import moment

    registry, now_ns = _registry(), time.time_ns()
    pair = [said if said == "none" else registry.model(said).uid for said in (one, other)]
    window = (moment(since, now_ns), moment(until, now_ns))
    again = again or archive
    if again:
        rows = by_replay(_settings(), registry, pair, window, archive=archive)
    else:
        rows = by_shadow(_settings(), pair, window)
    if as_json:
        print_json({"one": pair[0], "other": pair[1], "images": rows})
        return
    hint = (
        f"{pair[1]} was not in shadow beside {pair[0]} then; --replay judges the window with each"
    )
    show(rows, as_json=False, empty="neither would call anybody" if again else hint)
    if rows and not again:
        typer.echo("single samples, not alarms: --replay tells how often each would call somebody")


@command.command()
def promote(
    model: Model,
    stage: Annotated[str, typer.Option(help="shadow: beside the active one; active: decides.")],
    from_: From = "+30s",
    without_replay: Annotated[
        str, typer.Option(help="Active without a passed replay: why. Stands in the record.")
    ] = "",
    because: Because = "",
    key: Key = "trainer",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Use a model from a stated event time on.

    What becomes active has passed `plimsoll replay --model … --record`, or you say with
    --without-replay why it need not.
    """
    from models.errors import UntrustedFile
    from models.records.manifest import Stage

    registry, wanted = _registry(), _stage(stage)
    manifest = registry.model(model)
    problem = _file_problem(registry, manifest)
    if problem:
        raise UntrustedFile(problem)
    shown, reason = None, because
    if wanted is Stage.ACTIVE:
        shown = None if without_replay else _passed(registry, manifest.uid)
        reason = "; ".join(
            filter(None, (because, without_replay and f"no replay: {without_replay}"))
        )
    _say(registry, manifest.uid, wanted, from_, reason, key, shown, dry_run, as_json)


@command.command()
def rollback(
    from_: From = "+30s",
    image: Annotated[
        str, typer.Option("--image", help="The forest of this image's own; else the fleet's.")
    ] = "",
    because: Because = "",
    key: Key = "trainer",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Go back to the model that was active before the present one."""
    from models.errors import ConfigurationError
    from models.records.manifest import Stage

    registry, now_ns = _registry(), time.time_ns()
    turns = registry.register.schedule(lineage=image.partition("@")[0])
    at_ns = max([now_ns, *(turn.from_ns for turn in turns.active)])
    present, before = turns.active_at(at_ns), turns.before(at_ns)
    if not before:
        raise ConfigurationError(
            f"no model was active before {present or 'now'}: `plimsoll models retire` ends its "
            "turn, then distance decides alone"
        )
    reason = "; ".join(filter(None, (f"rollback of {present or 'none'}", because)))
    _say(registry, before, Stage.ACTIVE, from_, reason, key, None, dry_run, as_json)


@command.command()
def retire(
    model: Model, from_: From = "+30s", because: Because = "", key: Key = "trainer",
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Use a model no more. If it is the active one, distance decides alone from then on."""
    from models.records.manifest import Stage

    registry = _registry()
    uid = registry.model(model).uid
    _say(registry, uid, Stage.RETIRED, from_, because, key, None, dry_run, as_json)


# ---- inside -------------------------------------------------------------------------------


def _settings() -> Any:
    from streams.settings import load

    return load()


def _registry() -> Any:
    return registry_of(_settings())


def registry_of(settings: Any) -> Any:
    """What the models topic says, for these settings."""
    from models.contract import Topics
    from streams.keys import TrustFile
    from streams.stores.models import ModelStore
    from streams.stores.registry import Registry

    return Registry(
        settings.kafka, Topics(settings.topic_prefix), settings.scope,
        store=ModelStore(settings.models_dir), trust=TrustFile(settings.keys_dir, time.time_ns),
    )  # fmt: skip  # one line a thought


def _say(
    registry: Any, uid: str, stage: Any, from_: str, because: str, key: str, shown: Any,
    dry_run: bool, as_json: bool,
) -> None:  # fmt: skip  # two lines say as much
    from models.errors import ConfigurationError
    from models.records.manifest import LEAD_NS
    from streams.commands.times import clock, moment
    from streams.keys import Signer
    from streams.stores.registry import staging

    settings, now_ns = _settings(), time.time_ns()
    signer, from_ns = Signer.load(settings.keys_dir, key), moment(from_, now_ns)
    if from_ns < now_ns + LEAD_NS:
        raise ConfigurationError(
            f"--from {from_}: a stage begins at least {LEAD_NS // 10**9} s from now, so that every "
            "worker knows of it by then"
        )
    word = staging(
        settings.scope, uid, stage, from_ns=from_ns, said_ns=now_ns,
        by=signer.name, because=because, rehearsal=shown,
    )  # fmt: skip  # one line a thought
    if not dry_run:
        registry.say(word, signer)
    if as_json:
        print_json({"said": not dry_run, "staging": word})
        return
    lead = "would be" if dry_run else "is"
    typer.echo(f"{uid} {lead} {stage} for events from {clock(word.from_ns)} UTC on")


def _stage(said: str) -> Any:
    from models.errors import ConfigurationError
    from models.records.manifest import Stage

    if said not in (Stage.SHADOW, Stage.ACTIVE, Stage.CANDIDATE):
        raise ConfigurationError(f"--stage {said!r}: expected shadow, active or candidate")
    return Stage(said)


def _passed(registry: Any, uid: str) -> Any:
    """The latest rehearsal of a model, if it passed."""
    from models.errors import ConfigurationError

    shown = max(
        (one for one in registry.register.rehearsals.values() if one.model == uid),
        key=lambda one: one.at_ns, default=None,
    )  # fmt: skip  # one condition
    if shown is not None and shown.passed:
        return shown
    why = "was never replayed" if shown is None else "failed its last replay"
    raise ConfigurationError(
        f"{uid} {why}: `plimsoll replay --model {uid} --record` first, or say with "
        "--without-replay why it need not"
    )


def _newest_first(registry: Any) -> list[Any]:
    return sorted(registry.register.manifests.values(), key=lambda one: -one.trained_ns)


def _row(registry: Any, manifest: Any, now_ns: int) -> dict[str, Any]:
    from streams.commands.cards import counted
    from streams.commands.times import clock

    tried = manifest.evaluation
    return {
        "model": manifest.uid,
        "serves": manifest.lineage or "fleet",
        "stage": _stage_now(registry, manifest.uid, now_ns),
        "trained": clock(manifest.trained_ns),
        "samples": manifest.rows,
        "window_from": clock(manifest.from_ns),
        "window_until": clock(manifest.until_ns),
        "alarms_held_out": counted(tried.alarms) if tried else None,
        "file": "missing or changed" if _file_problem(registry, manifest) else "as signed",
    }


def _stage_now(registry: Any, uid: str, now_ns: int) -> str:
    """The stage now, and the next one if that is said already."""
    from streams.commands.times import clock

    register = registry.register
    words = [word for word in register.stagings() if word.from_ns <= now_ns]
    turns = register.schedule(lineage=_serves(register, uid))
    now = str(_scheduled(words, register, uid).stages.get(uid, "candidate"))
    later = [
        word for word in register.stagings() if word.model == uid and word.from_ns > now_ns
    ]  # fmt: skip  # one condition
    if not later:
        return now
    last = max(later, key=lambda word: (word.from_ns, word.said_ns, word.uid))
    return f"{now}, {turns.stages[uid]} from {clock(last.from_ns)}"


def _scheduled(words: Any, register: Any, uid: str) -> Any:
    """The turns that these words come to, among models that serve the same."""
    from models.register import schedule

    serves = _serves(register, uid)
    return schedule(word for word in words if _serves(register, word.model) == serves)


def _serves(register: Any, uid: str) -> str:
    manifest = register.model(uid)
    return manifest.lineage if manifest is not None else ""


def _turns(registry: Any, model: str) -> list[dict[str, Any]]:
    from streams.commands.cards import rehearsed
    from streams.commands.times import clock

    uid = registry.model(model).uid
    words = sorted(registry.register.stagings(), key=lambda word: (word.from_ns, word.said_ns))
    return [
        {
            "stage": str(word.stage),
            "from": clock(word.from_ns),
            "said": clock(word.said_ns),
            "by": word.by,
            "because": word.because,
            "replay": rehearsed(word.rehearsal) if word.rehearsal else None,
        }
        for word in words
        if word.model == uid
    ]


def _file_problem(registry: Any, manifest: Any) -> str:
    """Why a model's file can't be used; empty when it can."""
    from models.errors import PlimsollError
    from streams.stores.models import forest_of

    try:
        forest_of(manifest, registry.store.load(manifest.sha256))
    except PlimsollError as problem:
        return str(problem)
    return ""
