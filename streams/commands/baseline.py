"""``plimsoll baseline``: what is normal of an image, as a table, a difference or a file; and what
people teach about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from streams.commands.output import AsJson, print_json, show

command = typer.Typer(
    help="Show, compare, export and import what is normal of an image.", no_args_is_help=True
)

Lineage = Annotated[str, typer.Argument(help="An image's lineage, or LINEAGE/ROLE.")]
ImageName = Annotated[str, typer.Option("--image", help="Which version; else the newest.")]


@command.command("list")
def list_baselines(as_json: AsJson = False) -> None:
    """Every lineage that the workers know, and how much is known of its newest version."""
    from streams.stores.baselines import newest_first

    rows = []
    for state in baselines().all():
        for image in newest_first(state)[:1]:
            found = _normal(state, image)
            rows.append({
                "lineage": state.lineage, "role": state.role, "versions": len(state.images),
                "containers": len(state.members), "known": f"{found.known:.0%}",
                "image": image.name,
            })  # fmt: skip  # one row
    show(rows, as_json=as_json, empty="nothing is known yet: is `plimsoll worker` running?")


@command.command("show")
def show_one(lineage: Lineage, image: ImageName = "", as_json: AsJson = False) -> None:
    """What is usual, feature by feature, how sure we are of it, and what comes again."""
    from dataclasses import asdict

    from models.normal import habits, jobs
    from streams.commands.times import clock
    from streams.report.rows import habit, job, usual
    from streams.report.words import clean
    from streams.stores.baselines import image_of

    state = baselines().find(lineage)
    version = image_of(state, image)
    found, daily = _normal(state, version), habits(version, state.now_ns)
    now_and_then = jobs(version, state.now_ns)
    if as_json:
        print_json({**asdict(found), "habits": daily, "jobs": now_and_then})
        return
    typer.echo(clean(f"{found.image}" + (f", role {found.role}" if found.role else "")))
    typer.echo(
        f"first seen {clock(found.first_ns)} UTC; known {found.known:.0%} "
        f"({found.container_blocks:.0f} blocks of containers); line {found.line:.1f} deviations"
    )
    show([usual(one) for one in found.features], as_json=False, empty="no magnitudes known yet")
    if daily:
        typer.echo("\nat the same time of day (UTC):")
        show([habit(one) for one in daily], as_json=False)
    if now_and_then:
        typer.echo("\nnow and then:")
        show([job(one) for one in now_and_then], as_json=False)
    if found.facts:
        typer.echo(f"\nnormal facts of the lineage ({len(found.facts)}):")
        for fact in found.facts:
            typer.echo(f"  {clean(fact)}")


@command.command()
def diff(
    lineage: Lineage,
    before: Annotated[str, typer.Option(help="The older version; else the one before.")] = "",
    after: Annotated[str, typer.Option(help="The newer version; else the newest.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also what differs by less than two deviations.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What two versions of an image do differently."""
    from models.errors import ConfigurationError
    from models.normal import differences, habits, lacking
    from streams.report.rows import habit
    from streams.stores.baselines import image_of, newest_first

    state = baselines().find(lineage)
    new = image_of(state, after)
    older = [one for one in newest_first(state) if one.first_ns <= new.first_ns and one is not new]
    if not older:
        raise ConfigurationError(f"{lineage}: only one version is known, {new.name}")
    old = image_of(state, before) if before else older[0]
    changes = [one for one in differences(old, new) if everything or one.material]
    kept, present = habits(old, state.now_ns), habits(new, state.now_ns)
    given_up, taken_up = lacking(kept, present), lacking(present, kept)
    if as_json:
        print_json({
            "before": old.name, "after": new.name, "changes": changes,
            "habits_given_up": given_up, "habits_taken_up": taken_up,
        })  # fmt: skip  # one document
        return
    typer.echo(f"- {old.name}\n+ {new.name}")
    show([change_row(one) for one in changes], as_json=False,
         empty="no feature differs by two deviations or more")  # fmt: skip  # one call
    rows = [
        {"version": sign, **habit(one)}
        for sign, some in (("-", given_up), ("+", taken_up)) for one in some
    ]  # fmt: skip  # one row each
    if rows:
        typer.echo("\nat the same time of day (UTC):")
        show(rows, as_json=False)


@command.command()
def export(
    lineage: Lineage,
    image: ImageName = "",
    out: Annotated[
        Path | None, typer.Option(help="The file, .toml or .json; else TOML on standard output.")
    ] = None,
) -> None:
    """Write a baseline as a file that people review, features by name in their own units."""
    found = _find(lineage, image)
    as_json = out is not None and out.suffix == ".json"
    text = _json(found) if as_json else "\n".join(_toml(found)) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text)
    typer.echo(f"{found.image}: {out}")


From = Annotated[
    str, typer.Option("--from", help="Event time from which it holds: now, +30s, a date (UTC).")
]
Because = Annotated[str, typer.Option(help="Why; stands in the record.")]
Key = Annotated[str, typer.Option("--key", help="An operator's or trainer's key in keys_dir.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait until a worker has taken it in.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the difference; say nothing.")]


@command.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `export` wrote, TOML or JSON; edited, maybe.")],
    lineage: Annotated[
        str, typer.Option(help="LINEAGE or LINEAGE/ROLE that is taught; else the file's.")
    ] = "",
    image: Annotated[
        str, typer.Option("--image", help="The version that is taught; else the newest.")
    ] = "",
    full: Annotated[
        bool, typer.Option("--full", help="As if learned here; else as a new version inherits.")
    ] = False,
    from_: From = "now", because: Because = "", key: Key = "operator", wait: Wait = 20.0,
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Teach what a reviewed file says is normal of an image, from an event time on.

    What the file does not name stays as it is. Without --full magnitudes are only watched until
    the image has shown that the file fits it. Proofs are never taught.
    """
    from streams.commands import teaching

    teaching.import_file(
        file, lineage, image, full=full, from_=from_, because=because, key=key, wait_s=wait,
        dry_run=dry_run, as_json=as_json,
    )  # fmt: skip  # one call


@command.command()
def lessons(lineage: Lineage, as_json: AsJson = False) -> None:
    """What people have taught about a lineage: dismissed, confirmed, imported; and until when."""
    from streams.commands.teaching import told_of

    show(told_of(baselines().find(lineage)), as_json=as_json, empty="nobody has taught anything")


@command.command()
def undo(
    lineage: Lineage,
    lesson: Annotated[str, typer.Argument(help="A lesson's id, or the beginning of it.")],
    because: Because = "", key: Key = "operator", wait: Wait = 20.0, dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip  # as the others
    """Take a lesson back; an imported baseline goes back to what was there before it."""
    from streams.commands import teaching

    teaching.undo(
        lineage, lesson, because=because, key=key, wait_s=wait, dry_run=dry_run, as_json=as_json
    )


# ---- inside -------------------------------------------------------------------------------


def _settings() -> Any:
    from streams.settings import load

    return load()


def baselines() -> Any:
    """What workers know, read from their table's changelog."""
    from models.contract import Topics
    from streams.stores.baselines import Baselines

    settings = _settings()
    topics = Topics(settings.topic_prefix)
    return Baselines(settings.kafka, topics, settings.worker.group, settings.scope)


def _find(lineage: str, image: str) -> Any:
    from streams.stores.baselines import image_of

    state = baselines().find(lineage)
    return _normal(state, image_of(state, image))


def _normal(state: Any, image: Any) -> Any:
    from models.detection import Detection
    from models.normal import normal

    return normal(state, image, Detection())


def change_row(one: Any) -> dict[str, Any]:
    def told(side: Any) -> str:
        from models.reasons import amount

        if side is None:
            return "unknown"
        low, high = amount(side.low, side.unit), amount(side.high, side.unit)
        return f"{amount(side.usual, side.unit)} ({low} to {high})"

    return {
        "feature": one.feature,
        "before": told(one.before),
        "after": told(one.after),
        "deviations": "" if one.deviations is None else f"{one.deviations:+.1f}",
    }


def _json(found: Any) -> str:
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n"


def _toml(found: Any) -> Iterator[str]:
    """JSON's strings are TOML's."""

    def text(value: str) -> str:
        return orjson.dumps(value).decode().replace("\x7f", "\\u007f")

    for name in ("scope", "lineage", "role", "image"):
        yield f"{name} = {text(getattr(found, name))}"
    yield f"first_ns = {found.first_ns}"
    yield f"known = {found.known:.3f}"
    yield f"container_blocks = {found.container_blocks:.0f}"
    yield f"line = {found.line:.3f}"
    yield f"facts = [{''.join(f'{chr(10)}  {text(fact)},' for fact in found.facts)}\n]"
    for one in found.features:
        yield ""
        yield f"[features.{one.feature}]"
        yield f"unit = {text(one.unit)}"
        for name in ("usual", "low", "high", "deviation", "blocks"):
            yield f"{name} = {getattr(one, name):.6e}"
