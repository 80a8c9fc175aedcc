"""``plimsoll incident``: look at incidents, decide about them, prove what was done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from models.records.control import Verb
from streams.commands.output import AsJson, print_json, show
from streams.commands.times import moment
from streams.report.words import clean

command = typer.Typer(
    help="Look at incidents, decide about them, prove what was done.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(help="An incident's id, or the beginning of it.")]
Because = Annotated[str, typer.Option(help="Why; stands in the evidence.")]
Key = Annotated[str, typer.Option("--key", help="Your private key in keys_dir.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be said to the governor; say nothing.")
]
Wait = Annotated[
    float, typer.Option("--wait", min=0.5, help="Seconds to wait for governor and responder.")
]
NS = 10**9
WIDE = ("source", "sha256", "lies_at")
"""Of an exhibit, what only an auditor asks for."""


# ---- looking ------------------------------------------------------------------------------


@command.command("list")
def list_incidents(
    everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Incidents that the alerts topic holds, the latest first."""
    rows = [_row(one) for one in _reader().stories() if everything or one.open]
    hint = "no incidents" if everything else "no open incidents (--all tells of closed ones)"
    show(rows, as_json=as_json, empty=hint)


@command.command("show")
def show_one(incident: Id, as_json: AsJson = False) -> None:
    """One incident: what was found, what was done, what may be done."""
    from streams.report.words import told

    story = _reader().story(incident)
    if as_json:
        print_json(story.latest)
        return
    for line in told(story):
        typer.echo(line)


@command.command("verify")
def verify_chain(incident: Id, as_json: AsJson = False) -> None:
    """Look at every exhibit of an incident's chain; exit code 1 on any change or loss."""
    from streams.report.proof import proof_of

    reader = _reader()
    story = reader.story(incident)
    proof = proof_of(reader.chain(story.uid, story.created_ms), story, _settings().evidence_dir)
    if as_json:
        print_json({"incident": story.uid, "holds": proof.holds, "exhibits": proof.rows})
    else:
        show(proof.rows, as_json=False, empty="no evidence", wide=WIDE, folds="what")
        typer.echo(proof.sentence)
    raise typer.Exit(0 if proof.holds else 1)


@command.command("report")
def write_report(
    incident: Id,
    out: Annotated[Path | None, typer.Option(help="The file; else INCIDENT.html here.")] = None,
    as_json: AsJson = False,
) -> None:
    """One HTML file that opens anywhere: timeline, reasons, acts, verification, chain."""
    from streams.report.page import report_of

    reader = _reader()
    story = reader.story(incident)
    path = out or Path(f"{story.uid}.html")
    path.write_text(report_of(reader, story, _settings().evidence_dir))
    if as_json:
        print_json({"incident": story.uid, "report": str(path)})
    else:
        typer.echo(f"{story.uid}: {path}")


# ---- deciding -----------------------------------------------------------------------------


@command.command()
def approve(
    incident: Id, because: Because = "", key: Key = "operator", wait: Wait = 30.0,
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Carry out what the policy proposed."""
    _about(Verb.APPROVE, incident, 0, because, key, wait, dry_run, as_json)


@command.command()
def release(
    incident: Id, because: Because = "", key: Key = "operator", wait: Wait = 30.0,
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Undo what was done; this incident orders nothing more."""
    _about(Verb.RELEASE, incident, 0, because, key, wait, dry_run, as_json)


@command.command()
def confirm(
    incident: Id, because: Because = "", key: Key = "operator", wait: Wait = 30.0,
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """It was real: say so in the record; nothing of it is ever learned."""
    _about(Verb.CONFIRM, incident, 0, because, key, wait, dry_run, as_json)


@command.command()
def dismiss(
    incident: Id,
    teach_for: Annotated[
        str, typer.Option("--for", help="How long the like is normal: 12h, 30d at most; 0s: not.")
    ] = "30d",
    because: Because = "", key: Key = "operator", wait: Wait = 30.0,
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """A false alarm: release what is held, close, and learn it as normal for a while.

    Its facts, and its features up to what was seen; never proofs. `plimsoll baseline lessons`
    lists what was learned, `undo` takes it back.
    """
    until_ns = moment(f"+{teach_for.removeprefix('+')}", time.time_ns())
    _about(Verb.DISMISS, incident, until_ns, because, key, wait, dry_run, as_json)


@command.command()
def extend(
    incident: Id,
    hours: Annotated[float, typer.Option(min=0.1, max=720, help="From now on.")],
    because: Because = "", key: Key = "operator", wait: Wait = 30.0,
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Keep what was done for so many hours from now."""
    until_ns = time.time_ns() + int(hours * 3600 * NS)
    _about(Verb.EXTEND, incident, until_ns, because, key, wait, dry_run, as_json)


@command.command("stop-orders")
def stop_orders(
    because: Because = "", key: Key = "operator", wait: Wait = 15.0, dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Kill switch: no orders at all, but releases; what is held stays held."""
    _say(Verb.STOP, "", 0, because, key, wait, dry_run, as_json)


@command.command("resume-orders")
def resume_orders(
    because: Because = "", key: Key = "operator", wait: Wait = 15.0, dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Kill switch off."""
    _say(Verb.RESUME, "", 0, because, key, wait, dry_run, as_json)


Target = Annotated[str, typer.Argument(help="An image (lineage), group, container id or name.")]
Minutes = Annotated[float, typer.Option(min=0, max=43_200, help="From now on; 0 lifts it.")]


@command.command()
def hold(
    target: Target, minutes: Minutes = 60.0, because: Because = "", key: Key = "operator",
    wait: Wait = 15.0, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """No orders about TARGET for a while; incidents are told all the same."""
    until_ns = time.time_ns() + int(minutes * 60 * NS)
    _say(Verb.HOLD, target, until_ns, because, key, wait, dry_run, as_json)


@command.command()
def suppress(
    target: Target, minutes: Minutes = 60.0, because: Because = "", key: Key = "operator",
    wait: Wait = 15.0, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """No new incidents about TARGET for a while."""
    until_ns = time.time_ns() + int(minutes * 60 * NS)
    _say(Verb.SUPPRESS, target, until_ns, because, key, wait, dry_run, as_json)


# ---- inside -------------------------------------------------------------------------------


def _settings() -> Any:
    from streams.settings import load

    return load()


def _reader() -> Any:
    from models.contract import Topics
    from streams.keys import TrustFile
    from streams.stores.incidents import Incidents

    settings = _settings()
    trust = TrustFile(settings.keys_dir, time.time_ns)
    return Incidents(settings.kafka, Topics(settings.topic_prefix), trust)


@contextmanager
def _speaker(key: str) -> Iterator[Any]:
    from models.contract import Topics
    from streams.keys import Signer
    from streams.words import Speaker

    settings = _settings()
    signer = Signer.load(settings.keys_dir, key)
    speaker = Speaker(
        settings.kafka, Topics(settings.topic_prefix), settings.scope, signer, time.time_ns
    )
    try:
        yield speaker
    finally:
        speaker.close()


def _about(
    verb: Verb, incident: str, until_ns: int, because: str, key: str, wait_s: float,
    dry_run: bool, as_json: bool,
) -> None:  # fmt: skip  # two lines say as much
    """A word about one incident: its id may be given by its beginning."""
    uid = _reader().story(incident).uid
    _say(verb, uid, until_ns, because, key, wait_s, dry_run, as_json, follow=True)


def _say(
    verb: Verb, target: str, until_ns: int, because: str, key: str, wait_s: float,
    dry_run: bool, as_json: bool, *, follow: bool = False,
) -> None:  # fmt: skip  # two lines say as much
    with _speaker(key) as speaker:
        word = speaker.word(verb, target, until_ns, because)
        if dry_run:
            _tell({"would_say": verb.value, "target": target, "as": word.operator}, as_json)
            return
        began_s = time.monotonic()
        said = speaker.say(word, wait_s)
        result = {"word": word.uid, "accepted": said.accepted, "detail": said.detail}
        if said.accepted and follow:
            left_s = max(wait_s - (time.monotonic() - began_s), 0.5)
            alert = speaker.follow(target, left_s)
            result["stage"] = alert["unmapped"]["stage"] if alert else None
            result["message"] = alert["message"] if alert else f"no answer within {wait_s:.0f} s"
    _tell(result, as_json)
    raise typer.Exit(0 if said.accepted else 1)


def _tell(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    if "would_say" in result:
        about = f" about {result['target']}" if result["target"] else ""
        typer.echo(f"would say {result['would_say']}{about} as {result['as']}; nothing was said")
        return
    lead = {True: "", False: "refused: ", None: "unanswered: "}[result["accepted"]]
    typer.echo(f"{lead}{result['detail']}", err=not result["accepted"])
    if result.get("message"):
        typer.echo(clean(result["message"]))


def _row(story: Any) -> dict[str, Any]:
    latest, state = story.latest, story.state
    return {
        "incident": story.uid,
        "level": state["level"],
        "stage": state["stage"],
        "subject": clean(latest["resources"][0]["name"]),
        "group": state["group"],
        "host": latest["device"]["uid"],
        "opened": _clock(story.created_ms),
        "what": clean(latest["message"]),
    }


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S")
