"""State ↔ rows of bytes, exactly: what is unpacked judges on as if it had never been packed.

A row is a little-endian length, a JSON header with the format version, and arrays one after
the other. The header names the features of the arrays' last axis, so a release that knows
more (or others) takes what it knows; a new feature starts cold.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, astuple, fields
from typing import Any, Final

import numpy as np
import orjson

from models.baseline import Baseline, Block
from models.budget import Lift, Tail
from models.detectors.residual import GUESS_ROWS, Together
from models.errors import MalformedRecord
from models.facts import Facts, Seen
from models.features import NAMES, SIZE, Array
from models.following import HORIZONS
from models.lessons import Lessons
from models.lineage import Before, Case, Image, LineageState, Recent
from models.members import CHANNELS, HIGH, LAST, LOW, Members
from models.records.codec import decode, encode
from models.records.lesson import Lesson
from models.records.telemetry import Member
from models.records.verdict import Shadow
from models.rhythm import Rhythm
from models.spells import Spells

__all__ = ["FORMAT", "LineageState", "pack", "unpack"]

FORMAT: Final = 1
CHUNK: Final = 64
FACTS_A_ROW: Final = 256
_LENGTH: Final = struct.Struct("<I")
_NAMED: Final = orjson.Fragment(orjson.dumps(NAMES))
_BASELINE: Final = ("location", "within", "between", "low", "high", "lasting", "blocks")
_BLOCK: Final = ("location", "within", "between", "low", "high", "lasting")
_COLD: Final = {"location": np.nan, "within": np.nan, "low": np.nan, "high": np.nan}
_PLAIN: Final = (
    "due_ns", "scope", "lineage", "role", "now_ns", "block_ns", "minute_ns", "interval_s",
    "window_ns", "told", "suppressed",
)  # fmt: skip  # a list


def pack(state: LineageState) -> dict[str, bytes]:
    """Row name → body: ``l``, ``b/IMAGE``, ``c/N`` (up to 64 containers), ``f/N`` (facts),
    ``t/N`` (what people taught) and ``u/IMAGE`` (what was there before, to go back to).

    A row whose bytes are as before need not be written again.
    """
    rows = {"l": _lineage(state)}
    rows |= {f"b/{name}": _image(image) for name, image in state.images.items()}
    chunks = range(0, len(state.members), CHUNK)
    rows |= {f"c/{start // CHUNK}": _chunk(state, start) for start in chunks}
    seen = list(state.facts.seen.items())
    for start in range(0, len(seen), FACTS_A_ROW):
        rows[f"f/{start // FACTS_A_ROW}"] = _seen(seen[start : start + FACTS_A_ROW])
    for at, lesson in enumerate((*state.lessons.waiting, *state.lessons.held)):
        waits = at < len(state.lessons.waiting)
        rows[f"t/{at}"] = _sealed({"waits": waits, "lesson": encode(lesson).decode()})
    rows |= {
        f"u/{name}": _before(image.before)
        for name, image in state.images.items() if image.before is not None
    }  # fmt: skip  # one condition
    return rows


def unpack(rows: Mapping[str, bytes]) -> LineageState:
    """The state that :func:`pack` wrote, this release's or an older one's.

    Raises: MalformedRecord, and nothing else, for bytes that are not that, and for a format
    that this release does not know. Its place is the row's name.
    """
    name = "l"
    try:
        whole, arrays = _opened(rows["l"])
        state = _lineage_from(whole, arrays)
        for name in sorted((row for row in rows if row[:2] == "b/"), key=_natural):
            image = _image_from(*_opened(rows[name]))
            _hold_minute(image, state)
            state.images[image.name] = image
        for name in sorted((row for row in rows if row[:2] == "c/"), key=_natural):
            _chunk_into(state, *_opened(rows[name]))
        seen: dict[str, Seen] = {}
        for name in sorted((row for row in rows if row[:2] == "f/"), key=_natural):
            seen |= _seen_from(_opened(rows[name])[0])
        state.facts.seen = seen
        state.lessons = _lessons_from(rows)
        state.facts.dismissed = state.lessons.dismissed
        state.facts.condemned = state.lessons.condemned
        for name in sorted(row for row in rows if row[:2] == "u/"):
            state.images[name[2:]].before = _before_from(*_opened(rows[name]))
        name = "l"
        _in_order(state, whole)
    except MalformedRecord as problem:
        raise problem.under(name) from problem
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, struct.error) as bad:
        raise MalformedRecord("undecodable", f"not a packed state ({bad!r})", name) from bad
    return state


def _lessons_from(rows: Mapping[str, bytes]) -> Lessons:
    names = sorted((row for row in rows if row[:2] == "t/"), key=_natural)
    found = [_opened(rows[name])[0] for name in names]
    lessons = [(one["waits"], decode(Lesson, one["lesson"].encode())) for one in found]
    return Lessons(
        tuple(lesson for waits, lesson in lessons if waits),
        tuple(lesson for waits, lesson in lessons if not waits),
    )


def _natural(row: str) -> tuple[int, str]:
    number = row[2:]
    return (int(number), "") if number.isdigit() else (0, number)


def _narrow(array: Any) -> Any:
    """In half the room where nothing is lost by it."""
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore", invalid="ignore"):  # a signalling NaN is one
        single = array.astype(np.float32)
    return single if np.array_equal(single, array, equal_nan=True) else array


def _sealed(header: dict[str, Any], *arrays: Any) -> bytes:
    narrow = [_narrow(array) for array in arrays]
    shapes = [[array.dtype.str, array.shape] for array in narrow]
    body = orjson.dumps({"v": FORMAT, "features": _NAMED, "arrays": shapes, **header})
    return b"".join([_LENGTH.pack(len(body)), body, *(array.tobytes() for array in narrow)])


def _opened(row: bytes) -> tuple[dict[str, Any], list[Any]]:
    (length,) = _LENGTH.unpack_from(row)
    header = orjson.loads(row[_LENGTH.size : _LENGTH.size + length])
    if header.get("v") != FORMAT:
        problem = f"state of format {header.get('v')!r}, this release reads {FORMAT}"
        raise MalformedRecord("unknown-schema", problem, "v")
    arrays, at = [], _LENGTH.size + length
    for dtype, shape in header["arrays"]:
        if dtype not in ("<f8", "<f4", "<i8"):
            raise MalformedRecord("mistyped", f"an array of {dtype!r}", "arrays")
        count = math.prod(shape)
        array = np.frombuffer(row, np.dtype(dtype), count, at).reshape(shape)
        at += array.nbytes
        arrays.append(array.astype(np.float64) if dtype == "<f4" else array.copy())
    if at != len(row):
        raise MalformedRecord("mistyped", f"{len(row) - at} bytes too many", "arrays")
    return header, arrays


def _aligned(header: dict[str, Any], array: Array, cold: float = 0.0) -> Array:
    """An array by this release's features; one that the row does not know is cold."""
    theirs = header["features"]
    if tuple(theirs) == NAMES:
        return array
    made = np.full((*array.shape[:-1], SIZE), cold)
    for at, name in enumerate(NAMES):
        if name in theirs:
            made[..., at] = array[..., theirs.index(name)]
    return made


def _lineage(state: LineageState) -> bytes:
    facts = state.facts
    header = {name: getattr(state, name) for name in _PLAIN} | {
        "images": list(state.images),
        "cases": list(state.cases),
        "fresh": list(facts.fresh.items()),
        "trials": facts.trials, "singles": facts.singles, "lost": facts.lost,
        "total": facts.total, "learned_ns": facts.learned_ns,
        "minutes": {i.name: [i.samples, i.load] for i in state.images.values()},
        "onsets": {i.name: [*astuple(i.onset_tail), *astuple(i.onset_lift), i.taught]
                   for i in state.images.values()},
    }  # fmt: skip  # a table
    shadows = {i.name: asdict(i.shadow) for i in state.images.values() if i.shadow is not None}
    header |= {"shadows": shadows} if shadows else {}
    sums = np.array([[*image.sums, image.lasting] for image in state.images.values()])
    return _sealed(header, sums.reshape(-1, 3, SIZE))


def _lineage_from(header: dict[str, Any], arrays: list[Any]) -> LineageState:
    state = LineageState(**{name: header[name] for name in _PLAIN})
    state.facts = Facts(
        fresh={key: tuple(by) for key, by in header["fresh"]}, trials=header["trials"],
        singles=header["singles"], lost=header["lost"], total=header["total"],
        learned_ns=header["learned_ns"],
    )  # fmt: skip  # a table
    sums = _aligned(header, arrays[0])
    for at, name in enumerate(header["images"]):
        image = Image(name, 0, sums=sums[at, :2].copy(), lasting=sums[at, 2].copy())
        image.samples, image.load = header["minutes"][name]
        if name in header.get("onsets", {}):
            high, excess, blocks, height, ahead, *taught = header["onsets"][name]
            image.onset_tail, image.onset_lift = Tail(high, excess, blocks), Lift(height, ahead)
            image.taught = "".join(taught)
        shadow = header.get("shadows", {}).get(name)
        image.shadow = Shadow(**shadow) if shadow is not None else None
        state.images[name] = image
    return state


def _hold_minute(image: Image, state: LineageState) -> None:
    """What changes with every batch lies in the lineage's row, not in the image's."""
    open_ = state.images.get(image.name)
    if open_ is not None:
        image.sums, image.samples, image.load = open_.sums, open_.samples, open_.load
        image.lasting, image.shadow = open_.lasting, open_.shadow
        image.onset_tail, image.onset_lift = open_.onset_tail, open_.onset_lift
        image.taught = open_.taught


def _in_order(state: LineageState, header: dict[str, Any]) -> None:
    state.images = {name: state.images[name] for name in header["images"]}
    state.cases = {subject: state.cases[subject] for subject in header["cases"]}


def _image(image: Image) -> bytes:
    base = image.baseline
    header: dict[str, Any] = {
        "name": image.name, "first_ns": image.first_ns, "line": image.line,
        "container_blocks": base.container_blocks, "tail": _named(image.tail, _TAIL),
        "lift": _named(image.lift, _LIFT), "starts": image.starts,
        "pending": [[block.end_ns, block.containers] for block in image.pending],
        "rhythm": image.rhythm, "together": image.together.rows,
    }  # fmt: skip  # a table
    if image.spells:  # few have any
        header["spells"] = image.spells
    pending = [[getattr(block, name) for name in _BLOCK] for block in image.pending]
    return _sealed(
        header, np.array([getattr(base, name) for name in _BASELINE]),
        np.array(pending).reshape(-1, len(_BLOCK), SIZE), _lower(image.together),
    )  # fmt: skip  # short enough


_LOWER: Final = np.tril_indices(SIZE)


def _lower(together: Together) -> Array:
    """Each horizon's triangle, which says all; ``(horizons, features (features + 1) / 2)``."""
    if together.rows == GUESS_ROWS:
        return np.empty((0, len(_LOWER[0])))
    return together.moments[:, _LOWER[0], _LOWER[1]]


def _together(header: dict[str, Any], arrays: list[Any]) -> Together:
    """What departs together; learned anew where it speaks of other features."""
    if len(arrays) < 3 or not len(arrays[2]) or tuple(header["features"]) != NAMES:
        return Together.guess(HORIZONS, SIZE)
    moments = np.zeros((len(arrays[2]), SIZE, SIZE))
    moments[:, _LOWER[0], _LOWER[1]] = moments[:, _LOWER[1], _LOWER[0]] = arrays[2]
    return Together(moments, float(header["together"]))


def _before(before: Before) -> bytes:
    base = before.baseline
    header = {
        "lesson": before.lesson, "facts": before.facts, "trials": before.trials,
        "container_blocks": base.container_blocks,
    }  # fmt: skip  # a table
    return _sealed(header, np.array([getattr(base, name) for name in _BASELINE]))


def _before_from(header: dict[str, Any], arrays: list[Any]) -> Before:
    return Before(
        header["lesson"], _baseline_from(header, arrays[0]), tuple(header["facts"]),
        header["trials"],
    )  # fmt: skip  # in the order of the class


def _baseline_from(header: dict[str, Any], rows: Array) -> Baseline:
    known = {
        name: _aligned(header, rows[at], _COLD.get(name, 0.0)) for at, name in enumerate(_BASELINE)
    }
    return Baseline(**known, container_blocks=header["container_blocks"])


def _image_from(header: dict[str, Any], arrays: list[Any]) -> Image:
    blocks = [
        Block(end_ns=end_ns, **_block(header, arrays[1][at]), containers=containers)
        for at, (end_ns, containers) in enumerate(header["pending"])
    ]
    return Image(
        header["name"], header["first_ns"],
        _baseline_from(header, arrays[0]), tuple(blocks),
        Tail(**header["tail"]), {a: tuple(seen) for a, seen in header["starts"].items()},
        line=header["line"], lift=Lift(**header.get("lift", {})),
        rhythm=_rhythm(header.get("rhythm", {})), spells=_spells(header.get("spells", {})),
        together=_together(header, arrays),
    )  # fmt: skip  # in the order of the class


def _rhythm(header: dict[str, Any]) -> Rhythm:
    return {
        key: tuple((int(at_ns), float(height)) for at_ns, height in beats)
        for key, beats in header.items()
    }


def _spells(header: dict[str, Any]) -> Spells:
    return {
        feature: tuple((int(began), int(until), float(height)) for began, until, height in some)
        for feature, some in header.items()
    }


def _block(header: dict[str, Any], arrays: Array) -> dict[str, Array]:
    return {
        name: _aligned(header, arrays[at], _COLD.get(name, 0.0)) for at, name in enumerate(_BLOCK)
    }


def _chunk(state: LineageState, start: int) -> bytes:
    members, part = state.members, slice(start, start + CHUNK)
    who = members.who[part]
    cases = {m.subject: _case(state.cases[m.subject]) for m in who if m.subject in state.cases}
    header = {"who": [_values(member, _MEMBER) for member in who], "cases": cases}
    return _sealed(
        header, members.grid[part], np.array([members.last_ns[part], members.since_ns[part]]),
        np.array([members.taught[part], members.peak[part], members.surprise[part]]),
        members.followed[part], members.account[part],
    )  # fmt: skip  # short enough


def _chunk_into(state: LineageState, header: dict[str, Any], arrays: list[Any]) -> None:
    members: Members = state.members
    grid = _aligned(header, arrays[0])
    if grid.shape[1:] != (CHANNELS, SIZE) or not len(grid) == len(header["who"]) <= CHUNK:
        raise MalformedRecord("mistyped", f"members of shape {grid.shape}", "arrays")
    for at, name in enumerate(NAMES):
        if name not in header["features"]:
            grid[:, LAST, at], grid[:, HIGH, at], grid[:, LOW, at] = np.nan, -np.inf, np.inf
    who = [Member(*values) for values in header["who"]]
    members.rows |= {member.subject: row for row, member in enumerate(who, len(members.who))}
    members.who += who
    members.grid = np.concatenate([members.grid, grid])
    members.last_ns = np.append(members.last_ns, arrays[1][0])
    members.since_ns = np.append(members.since_ns, arrays[1][1])
    members.taught = np.append(members.taught, arrays[2][0])
    members.peak = np.append(members.peak, arrays[2][1])
    members.surprise = np.append(members.surprise, arrays[2][2])
    members.follow_anew(len(who))
    if len(arrays) > 4 and tuple(header["features"]) == NAMES:
        members.followed[-len(who) :], members.account[-len(who) :] = arrays[3], arrays[4]
    for subject, case in header["cases"].items():
        state.cases[subject] = _case_from(case)


_RECENT, _SEEN, _MEMBER, _TAIL, _LIFT = (
    tuple(field.name for field in fields(kind)) for kind in (Recent, Seen, Member, Tail, Lift)
)


def _case(case: Case) -> dict[str, Any]:
    plain = {field.name: getattr(case, field.name) for field in fields(Case)}
    recents = [[key, *_values(recent, _RECENT)] for key, recent in case.recents.items()]
    return plain | {"recents": recents}


def _case_from(case: dict[str, Any]) -> Case:
    recents = {key: Recent(*values) for key, *values in case["recents"]}
    return Case(**(case | {"recents": recents}))


def _values(record: Any, names: tuple[str, ...]) -> list[Any]:
    """As a list: ``dataclasses.asdict`` takes five times as long, for every state written."""
    return [getattr(record, name) for name in names]


def _named(record: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _seen(items: list[tuple[str, Seen]]) -> bytes:
    return _sealed({"seen": [[key, *_values(fact, _SEEN)] for key, fact in items]})


def _seen_from(header: dict[str, Any]) -> dict[str, Seen]:
    return {
        key: Seen(first_ns, last_ns, blocks, trials, tuple(by), normal, *days)
        for key, first_ns, last_ns, blocks, trials, by, normal, *days in header["seen"]
    }
