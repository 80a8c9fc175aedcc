"""A record's fields as columns: the Arrow schema of a dataclass, from its own type hints.

A field ``x_ns`` becomes a time ``x`` (UTC, without a zone), ``at_ns`` becomes ``time``, and 0,
which records use for "none", becomes null. What SQL would have to quote gets another name.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

TIME: Final = pa.timestamp("ns")

RENAMED: Final = {
    "at_ns": "time", "from_ns": "begins", "order": "order_uid", "user": "user_name",
    "offset": "at_offset", "by": "by_whom",
}  # fmt: skip  # one line reads better
"""In SQL ``at``, ``by``, ``from``, ``order``, ``offset`` and ``user`` mean something else."""
RENAMED_IN: Final = {"Interface": {"name": "interface"}}
"""Beside an observation the name is its subject's."""

_SIMPLE: Final[dict[Any, pa.DataType]] = {
    str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary(),
}  # fmt: skip  # one line reads better

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a record: where it is read, how its column is called and converted."""

    field: str
    name: str
    kind: pa.DataType
    convert: Convert | None = None

    def of(self, record: Any) -> Any:
        value = getattr(record, self.field)
        return value if self.convert is None else self.convert(value)


@functools.cache
def columns(kind: Any, without: frozenset[str] = frozenset()) -> tuple[Column, ...]:
    """The columns of a record's kind, in the order of its fields.

    >>> from models.records.telemetry import Tick
    >>> [(column.name, str(column.kind)) for column in columns(Tick)]
    [('time', 'timestamp[ns]')]
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in without]
    return tuple(_column(kind, name, hints[name]) for name in names)


def called(kind: Any, field: str) -> str:
    """The name of a field's column.

    >>> from models.records.facts import Interface
    >>> called(Interface, "name"), called(Interface, "sent_bytes")
    ('interface', 'sent_bytes')
    """
    renamed = RENAMED_IN.get(kind.__name__, {})
    return renamed.get(field) or RENAMED.get(field, field.removesuffix("_ns"))


def row(record: Any, fields: tuple[Column, ...]) -> dict[str, Any]:
    """A record's values by column."""
    return {column.name: column.of(record) for column in fields}


def record(kind: Any, values: Mapping[str, Any]) -> Any:
    """The record that these columns hold: the inverse of :func:`row`, times as whole ns.

    >>> from models.records.telemetry import Tick
    >>> record(Tick, row(Tick(1_790_000_000 * 10**9), columns(Tick)))
    Tick(at_ns=1790000000000000000)
    """
    return kind(**{field: read(values.get(name)) for field, name, read in _readers(kind)})


def whole_ns(rows: pa.Table) -> pa.Table:
    """Times as whole nanoseconds, which Python's own cannot hold, within records too."""
    precise = [f.with_type(TIME) if pa.types.is_timestamp(f.type) else f for f in rows.schema]
    whole = [pa.field(field.name, _whole(field.type)) for field in rows.schema]
    return rows.cast(pa.schema(precise)).cast(pa.schema(whole))


def _whole(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(inner.name, _whole(inner.type)) for inner in kind])
    return pa.list_(_whole(kind.value_type)) if pa.types.is_list(kind) else kind


def time_of(value_ns: int) -> int | None:
    return value_ns or None


def _column(kind: Any, name: str, hint: Any) -> Column:
    if name.endswith("_ns"):
        return Column(name, called(kind, name), TIME, time_of)
    return Column(name, called(kind, name), *_typed(hint))


def _typed(hint: Any) -> tuple[pa.DataType, Convert | None]:
    if hint in _SIMPLE:
        return _SIMPLE[hint], None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (real,) = (one for one in arguments if one is not type(None))
        return _typed(real)
    if origin is tuple:
        item, convert = _typed(arguments[0])
        return pa.list_(item), _each(convert)
    if origin is dict:
        return pa.map_(pa.string(), _typed(arguments[1])[0]), _pairs
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return pa.string(), _word
    if dataclasses.is_dataclass(hint):
        return _struct(hint)
    raise TypeError(f"no column can hold {hint}")


def _struct(kind: Any) -> tuple[pa.DataType, Convert]:
    fields = columns(kind, LARGE)
    held = pa.struct([pa.field(column.name, column.kind) for column in fields])
    return held, lambda value: None if value is None else row(value, fields)


@functools.cache
def _readers(kind: Any) -> tuple[tuple[str, str, Convert], ...]:
    """Of each field its name, its column, and how its value is read back."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (field.name, called(kind, field.name), _reader(field, hints[field.name]))
        for field in dataclasses.fields(kind)
    )


def _reader(field: dataclasses.Field[Any], hint: Any) -> Convert:
    if field.name.endswith("_ns"):
        return lambda value: value or 0
    if hint in (bool, int, float, str) and field.default is not dataclasses.MISSING:
        return lambda value: field.default if value is None else value
    return _back(hint)


def _back(hint: Any) -> Convert:
    """From a column's value to a field's; what may be missing stays None, and what an older file
    did not have is empty, or what it is by default.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (real,) = (one for one in arguments if one is not type(None))
        inner = _back(real)
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _back(arguments[0])
        return lambda values: tuple(item(one) for one in values or ())
    if origin is dict:
        return lambda pairs: dict(pairs or ())
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return lambda word: None if word is None else hint(word)
    if dataclasses.is_dataclass(hint):
        return lambda values: None if values is None else record(hint, values)
    return lambda value: value


LARGE: Final = frozenset({"content"})
"""Within other records: what lies in the evidence store anyway, under the digest that stays."""


def _word(value: enum.Enum | None) -> str | None:
    return None if value is None else str(value.value)


def _pairs(value: Mapping[str, Any] | None) -> list[tuple[str, Any]] | None:
    return None if value is None else sorted(value.items())


def _each(convert: Convert | None) -> Convert:
    if convert is None:
        return list
    return lambda items: [convert(item) for item in items]
