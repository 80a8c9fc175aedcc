"""Behind ``plimsoll baseline import``, ``lessons`` and ``undo``: a lesson made, shown and said."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import typer

from models.detectors.rarity import teachable
from models.errors import ConfigurationError, UntrustedFile
from models.lineage import Image, LineageState
from models.normal import Normal, differences
from models.normalfile import read_normal
from models.records.lesson import Lesson, Teaching
from models.teaching import taught
from streams.commands.baseline import baselines, change_row
from streams.commands.output import print_json, show
from streams.commands.times import clock, moment
from streams.keys import Signer
from streams.lessons import Teacher
from streams.report.words import clean
from streams.settings import Settings, load
from streams.stores.baselines import image_of

MOST_LISTED: Final = 20


def import_file(
    file: Path, lineage: str, image: str, *, full: bool, from_: str, because: str, key: str,
    wait_s: float, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip  # two lines say as much
    settings, now_ns = load(), time.time_ns()
    found, signer = _read(file), Signer.load(settings.keys_dir, key)
    state = _state(lineage or "/".join(filter(None, (found.lineage, found.role))))
    before = _taught_image(state, image, found)
    lesson = _with_id(Lesson(
        "lesson", settings.scope, state.lineage if state else found.lineage,
        state.role if state else found.role, Teaching.BASELINE, signer.name, now_ns,
        from_ns=moment(from_, now_ns), because=because or f"file {file.name}", image=before.name,
        facts=tuple(filter(teachable, found.facts)), usual=found.features,
        container_blocks=found.container_blocks, in_full=full,
    ))  # fmt: skip  # as the fields lie
    after = replace(before, baseline=taught(before.baseline, lesson))
    changes = list(differences(before, after))
    facts = _new_facts(state, lesson)
    said = None if dry_run else _say(settings, signer, lesson, wait_s)
    if as_json:
        print_json({
            "lesson": lesson.uid, "said": not dry_run, "taken_in": said, "image": before.name,
            "group": lesson.group, "from_ns": lesson.from_ns, "in_full": full,
            "changes": changes, "facts": facts, "never_taught": _proofs(found),
        })  # fmt: skip  # one document
    else:
        for line in _told(lesson, found, facts):
            typer.echo(line)
        show([change_row(one) for one in changes if one.before != one.after], as_json=False,
             empty="no feature differs")  # fmt: skip  # one call
        _tell_end(lesson, said, dry_run=dry_run)
    raise typer.Exit(1 if said is False else 0)


def undo(
    lineage: str, lesson: str, *, because: str, key: str, wait_s: float, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip  # two lines say as much
    settings, now_ns = load(), time.time_ns()
    signer, state = Signer.load(settings.keys_dir, key), baselines().find(lineage)
    known = [*state.lessons.waiting, *state.lessons.held]
    found = [one for one in known if _named(one, lesson)]
    if len(found) != 1:
        what = f"{len(found)} lessons" if found else "no lesson"
        raise ConfigurationError(
            f"{what} of {lineage} begins with {lesson!r}: `plimsoll baseline lessons {lineage}`"
        )
    word = _with_id(Lesson(
        "lesson", state.scope, state.lineage, state.role, Teaching.UNDO, signer.name, now_ns,
        because=because, undoes=found[0].uid,
    ))  # fmt: skip  # as the fields lie
    said = None if dry_run else _say(settings, signer, word, wait_s)
    if as_json:
        print_json({"lesson": word.uid, "undoes": word.undoes, "said": not dry_run,
                    "taken_in": said})  # fmt: skip  # one document
    else:
        typer.echo(f"undoes {word.undoes}: {found[0].what} by {found[0].by}")
        _tell_end(word, said, dry_run=dry_run)
    raise typer.Exit(1 if said is False else 0)


def told_of(state: LineageState) -> list[dict[str, Any]]:
    """A row a lesson, those that wait first."""
    lessons = state.lessons
    return [
        {
            "lesson": one.uid,
            "what": str(one.what),
            "stands": "waiting" if one in lessons.waiting else "in force",
            "by": one.by,
            "said": clock(one.said_ns),
            "from": clock(one.from_ns),
            "until": clock(one.until_ns),
            "of": ", ".join([*one.facts, *(span.feature for span in one.spans)]) or one.image,
            "because": one.because,
        }
        for one in (*lessons.waiting, *lessons.held)
    ]


# ---- inside -------------------------------------------------------------------------------


def _read(file: Path) -> Normal:
    try:
        return read_normal(file.read_bytes(), str(file))
    except OSError as problem:
        raise UntrustedFile(f"{file}: {problem.strerror}; nothing was said") from problem


def _state(lineage: str) -> LineageState | None:
    """None: nothing is known of it yet."""
    try:
        state: LineageState = baselines().find(lineage)
    except ConfigurationError as problem:
        if "nothing is known" in str(problem):
            return None
        raise
    return state


def _taught_image(state: LineageState | None, said: str, found: Normal) -> Image:
    """The version that is taught. One that has not run yet starts as it would in the judge."""
    if state is None:
        return Image(said or found.image, 0)
    if said or state.images:
        return image_of(state, said)
    return Image(found.image, 0)


def _with_id(lesson: Lesson) -> Lesson:
    """Its id follows from its content: said twice it is one."""
    digest = hashlib.blake2b(repr(lesson).encode(), digest_size=8).hexdigest()
    return replace(lesson, uid=f"lesson-{digest}")


def _say(settings: Settings, signer: Signer, lesson: Lesson, wait_s: float) -> bool | None:
    """Whether a worker took it in; None when that was not seen in time.

    Raises: ConfigurationError when the judge refused it.
    """
    teacher = Teacher(settings, signer)
    teacher.say(lesson)

    def there() -> bool:
        state = _state(f"{lesson.lineage}/{lesson.role}" if lesson.role else lesson.lineage)
        known = state.lessons if state is not None else None
        if lesson.what is Teaching.UNDO:
            return known is not None and known.find(lesson.undoes) is None
        return known is not None and known.find(lesson.uid) is not None

    return teacher.awaited(there, wait_s)


def _new_facts(state: LineageState | None, lesson: Lesson) -> list[str]:
    if state is None:
        return list(lesson.facts)
    return [key for key in lesson.facts if not state.facts.normal(key)]


def _proofs(found: Normal) -> list[str]:
    return [key for key in found.facts if not teachable(key)]


def _told(lesson: Lesson, found: Normal, facts: list[str]) -> Iterator[str]:
    role = f", role {lesson.role}" if lesson.role else ""
    trust = "in full" if lesson.in_full else "trust anew: watched until it is known"
    yield clean(f"{lesson.image}{role}: from {clock(lesson.from_ns)} UTC, {trust}")
    if (found.scope, found.image) != (lesson.scope, lesson.image):
        yield clean(f"the file is of {found.image} in scope {found.scope or 'unnamed'}")
    for key in facts[:MOST_LISTED]:
        yield clean(f"+ {key}")
    if len(facts) > MOST_LISTED:
        yield f"+ {len(facts) - MOST_LISTED} facts more"
    for key in _proofs(found):
        yield clean(f"not taught, no file may: {key}")


def _tell_end(lesson: Lesson, said: bool | None, *, dry_run: bool) -> None:
    if dry_run:
        typer.echo("dry run: nothing was said")
    elif said:
        typer.echo(f"{lesson.uid}: a worker took it in")
        if lesson.what is Teaching.BASELINE:
            place = f"{lesson.lineage}/{lesson.role}" if lesson.role else lesson.lineage
            typer.echo(f"back again: plimsoll baseline undo {place} {lesson.uid}")
    else:
        typer.echo(
            f"{lesson.uid} is in the log; no worker has taken it in yet (is `plimsoll worker` "
            "running?); it will hold when one does",
            err=True,
        )


def _named(lesson: Lesson, said: str) -> bool:
    return bool(said) and (
        lesson.uid.startswith(said) or lesson.uid.partition("-")[2].startswith(said)
    )
