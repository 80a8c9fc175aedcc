"""``plimsoll train``: a forest from a past window, announced as a candidate."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from streams.commands.output import AsJson, print_json

Since = Annotated[
    str, typer.Option("--from", help="Where the window begins: 6h (ago), a date; empty: all.")
]
Until = Annotated[str, typer.Option("--until", help="Where it ends: now, 1h (ago), a date.")]
TrainerKey = Annotated[str, typer.Option("--key", help="A trainer's private key in keys_dir.")]


def command(
    since: Since = "",
    until: Until = "now",
    seed: Annotated[int, typer.Option(help="The same window and seed give the same file.")] = 0,
    image: Annotated[
        str, typer.Option("--image", help="A forest of its own for this image, all its versions.")
    ] = "",
    archive: Annotated[
        bool,
        typer.Option("--archive", help="From the archive, for what Kafka no longer holds."),
    ] = False,
    key: TrainerKey = "trainer",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train and try it; keep and announce nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train an isolation forest on the telemetry of a window, and try it on the last part.

    The first three tenths only teach the baselines, the last three are held out: how it
    scores there, and which alarms it would have raised, stands on its card. The model is a
    candidate: nobody uses it until `plimsoll models promote`. With --image it learns from that
    image (or lineage) alone and serves nobody else; once active it comes before the fleet's. It
    has to be earned: on quiet samples held out it must tell how rare they are better than a
    forest of the whole fleet's.
    """
    from models.contract import Topics
    from streams.commands.progress import reading
    from streams.commands.replay import archived_of, telemetry_of
    from streams.keys import Signer
    from streams.settings import load
    from streams.stores.models import ModelStore

    settings, now_ns = load(), time.time_ns()
    topics = Topics(settings.topic_prefix)
    signer = Signer.load(settings.keys_dir, key)
    with reading("training", quiet=as_json) as progress:
        source = archived_of(settings) if archive else telemetry_of(settings, progress)
        lineage = image.partition("@")[0]
        manifest, content = _trained(source, settings, since, until, now_ns, seed, lineage)
    told: dict[str, Any] = {"model": manifest.uid, "took_s": (time.time_ns() - now_ns) / 1e9}
    if not dry_run:
        store = ModelStore(settings.models_dir)
        store.save(content)
        told |= _announced(settings, topics, store, manifest, signer)
    _tell(manifest, told, as_json=as_json)


def _trained(
    source: Any, settings: Any, since: str, until: str, now_ns: int, seed: int, lineage: str
) -> tuple[Any, bytes]:
    from models.pipeline import Core
    from streams.commands.times import moment
    from streams.training import TooLittle, candidate

    first_ns, last_ns = source.span()
    from_ns = max(moment(since, now_ns) if since else 0, first_ns)
    until_ns = min(moment(until, now_ns), last_ns)
    if from_ns >= until_ns:
        raise TooLittle("no telemetry in the window: is `plimsoll gather` running?")
    core = Core(detection=settings.worker.detection)
    return candidate(
        source, settings.scope, from_ns, until_ns, now_ns=now_ns, seed=seed, core=core,
        lineage=lineage,
    )  # fmt: skip  # one call


def _announced(
    settings: Any, topics: Any, store: Any, manifest: Any, signer: Any
) -> dict[str, Any]:
    from models.records.codec import encode
    from streams.keys import TrustFile
    from streams.stores.registry import Registry

    card = store.save_card(manifest, signer.sign(encode(manifest)))
    trust = TrustFile(settings.keys_dir, time.time_ns)
    registry = Registry(settings.kafka, topics, settings.scope, store=store, trust=trust)
    registry.say(manifest, signer)
    return {"file": str(store.path(manifest.sha256)), "card": str(card)}


def _tell(manifest: Any, told: dict[str, Any], *, as_json: bool) -> None:
    from streams.commands.cards import card

    if as_json:
        print_json({**told, "manifest": manifest})
        return
    for line in card(manifest):
        typer.echo(line)
    if "file" in told:
        typer.echo(f"\nkept as {told['file']}, card {told['card']}")
        typer.echo(f"next: plimsoll models promote {manifest.uid} --stage shadow")
    else:
        typer.echo("\ndry run: nothing was kept or announced")
