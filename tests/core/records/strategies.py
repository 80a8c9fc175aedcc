"""Any valid record, built from the record's own type hints."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Annotated, Any

import numpy as np
from hypothesis import strategies as st

from models.errors import MalformedRecord
from models.records.control import Word
from models.records.exhibit import Exhibit
from models.records.facts import Observation
from models.records.frame import Frame
from models.records.inventory import InventoryEntry
from models.records.lesson import Lesson, Span, Usual
from models.records.manifest import Manifest, Rehearsal, Staging
from models.records.order import Order, Outcome
from models.records.rejected import DeadLetter
from models.records.samples import Samples
from models.records.signed import Signed
from models.records.telemetry import Batch, Member, Sightings, Tick
from models.records.verdict import Finding, Summary, Verdict

RECORDS: tuple[type[Any], ...] = (
    Frame, Batch, Sightings, Tick, InventoryEntry, Verdict, Summary, Finding, Word, Order,
    Outcome, Exhibit, DeadLetter, Manifest, Signed, Staging, Rehearsal, Lesson,
)  # fmt: skip  # the list is the point

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)
scopes = names.filter(lambda name: "/" not in name)
times = st.integers(946_684_800 * 10**9, 4_102_444_800 * 10**9)
digests = st.one_of(st.just(""), st.text("0123456789abcdef", min_size=64, max_size=64))
numbers = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    features = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    subjects = tuple(draw(st.lists(names, min_size=1, max_size=3, unique=True)))
    rows = draw(st.integers(0, 4))
    one = st.one_of(numbers, st.just(float("nan")))
    columns = np.array(
        [[draw(numbers if f == 0 else one) for _ in range(rows)] for f in range(len(features))]
    ).reshape(len(features), rows)
    index = np.array([draw(st.integers(0, len(subjects) - 1)) for _ in range(rows)], np.int64)
    when = np.array([draw(times) for _ in range(rows)], np.int64)
    if not rows:
        return Samples()
    return Samples(features, subjects, index, when, columns)


def member(subject: str) -> st.SearchStrategy[Member]:
    started = st.just(0) | times
    return st.builds(Member, st.just(subject), names, names, started_ns=started)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    table = draw(samples().filter(lambda table: len(table) > 0))
    members = tuple(draw(member(subject)) for subject in table.subjects)
    return Batch(draw(scopes), draw(names), draw(names), members, table, draw(st.floats(1e-3, 9e3)))


@st.composite
def sightings(draw: st.DrawFn) -> Sightings:
    seen = tuple(draw(st.lists(records(Observation), min_size=1, max_size=3)))
    subjects = {observation.subject for observation in seen}
    members = tuple(draw(member(subject)) for subject in sorted(subjects))
    return Sightings(draw(scopes), draw(names), draw(names), members, seen)


ranges = st.lists(st.floats(0, 1e18), min_size=3, max_size=3).map(sorted)


def spans() -> st.SearchStrategy[Span]:
    return st.builds(lambda name, ends: Span(name, ends[0], ends[2]), names, ranges)


def usual() -> st.SearchStrategy[Usual]:
    one, many = st.floats(1e-9, 100), st.floats(0, 1e6)
    return st.builds(
        lambda name, unit, at, off, blocks: Usual(name, unit, at[1], at[0], at[2], off, blocks),
        names, names, ranges, one, many,
    )  # fmt: skip  # as the fields lie


SPECIAL: dict[Any, Any] = {
    Samples: samples, Batch: batches, Sightings: sightings, Span: spans, Usual: usual,
}  # fmt: skip  # a table
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "scope": scopes,
    "port": st.integers(0, 65_535),
    "sequence": st.integers(0, 2**31),
    "dropped": st.integers(0, 2**31),
    "interval_s": st.floats(1e-3, 86_400),
    "container_blocks": st.floats(0, 1e9),
    "score": st.floats(0, 1),
    "rarity": st.floats(0, 1),
    "sha256": digests,
    "previous": digests,
}


def records(kind: Any) -> st.SearchStrategy[Any]:
    """Valid records of one kind."""
    if kind in SPECIAL:
        special: st.SearchStrategy[Any] = SPECIAL[kind]()
        return special
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {
        field.name: _field(field.name, hints[field.name]) for field in dataclasses.fields(kind)
    }
    return st.fixed_dictionaries(fields).map(lambda found: _made(kind, found)).filter(bool)


def _made(kind: Any, fields: dict[str, Any]) -> Any:
    try:
        return kind(**fields)
    except MalformedRecord:
        return None


def _field(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name.endswith("_ns"):
        return times
    return BY_NAME[name] if name in BY_NAME else _by_type(hint)


def _by_type(hint: Any) -> st.SearchStrategy[Any]:
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: names, int: st.integers(-(2**63), 2**63 - 1), float: numbers, bool: st.booleans(),
        bytes: st.binary(max_size=9),
    }  # fmt: skip  # one line reads better
    if hint in simple:
        return simple[hint]
    if typing.get_origin(hint) is not None:
        return _composed(typing.get_origin(hint), typing.get_args(hint))
    if hint is type(None):
        return st.none()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    return records(hint)


def _composed(origin: Any, arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin is Annotated:
        raise TypeError("arrays need a strategy of their own")
    if origin is tuple:
        return st.lists(_by_type(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(names, _by_type(arguments[1]), max_size=3)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(_by_type, arguments))
    raise TypeError(f"no strategy for {origin}")
