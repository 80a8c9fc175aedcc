"""Bytes → record → bytes, strictly, from the dataclass's own type hints.

A record is a frozen dataclass. On the wire it is one JSON object whose first field ``v``
is the format version. A field with a default may be absent (an older writer did not know
it); an unknown field, and a fact of an unknown kind in a list of them, is passed over (a
newer writer knows more). Anything else that does not fit raises :class:`MalformedRecord`,
which names the place. Nothing else is ever raised, whatever the bytes are.

A record of many numbers may have a binary form besides (models/records/binary.py): it
brings ``from_binary``, and whoever decodes that record reads either, told by the first bytes.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import orjson

from models.errors import MalformedRecord

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT: Final = 1
LONGEST_TEXT: Final = 65_536
LONGEST_LIST: Final = 100_000

MAGIC: Final = b"\x89PLB"
"""How the binary form begins. No JSON begins so: 0x89 begins no UTF-8 text at all."""

R = TypeVar("R")
Decoder = Callable[[Any], Any]


def encode(record: Any) -> bytes:
    """The one wire form of a record: same record, same bytes."""
    body = {"v": FORMAT, **_plain(record)}
    return orjson.dumps(body, default=_foreign, option=orjson.OPT_SERIALIZE_NUMPY)


def decode(kind: type[R], data: bytes | None) -> R:
    """The record of this kind that the bytes hold, in whichever form.

    Raises: MalformedRecord, and nothing else.
    """
    if data is not None and data.startswith(MAGIC):
        return _binary(kind)(data)
    body = _parsed(data or b"")
    version = body.get("v")
    if type(version) is not int:
        raise MalformedRecord("unknown-schema", "no format version", "v")
    if version != FORMAT:
        raise MalformedRecord(
            "unknown-schema",
            f"format {version}, this release reads {FORMAT}: upgrade the older side",
            "v",
        )
    record: R = _decoder(typing.cast("Any", kind))(body)
    return record


def encode_line(part: Any) -> bytes:
    """A part of a record as one line of JSON, as the binary form holds it."""
    kind: Any = type(part)
    body = _plain(part) if _winding(kind) else part
    return orjson.dumps(body, default=_foreign, option=orjson.OPT_SERIALIZE_NUMPY)


def decode_line(kind: type[R], line: bytes) -> R:
    """The part of a record that a line holds.

    Raises: MalformedRecord, and nothing else.
    """
    part: R = _decoder(typing.cast("Any", kind))(_parsed(line))
    return part


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as problem:
        raise MalformedRecord("undecodable", f"not JSON ({problem})") from problem
    if not isinstance(body, dict):
        raise MalformedRecord("undecodable", f"expected an object, found {_named(body)}")
    return body


def _binary(kind: type[R]) -> Callable[[bytes], R]:
    read: Callable[[bytes], R] | None = getattr(kind, "from_binary", None)
    if read is None:
        problem = f"binary, but a {kind.__name__} is written as JSON"
        raise MalformedRecord("undecodable", problem)
    return read


def _plain(record: Any) -> dict[str, Any]:
    """A record's fields in order, each as orjson takes it."""
    kind: Any = type(record)
    tag = {"kind": kind.KIND} if hasattr(kind, "KIND") else {}
    return tag | {
        name: _taken(value) if winding else value
        for name, winding in _fields(kind)
        for value in (getattr(record, name),)
    }


def _taken(value: Any) -> Any:
    """What orjson would write otherwise than we do: tagged facts, and objects whose order
    of keys is nobody's decision.
    """
    if dataclasses.is_dataclass(value):
        return _plain(value)
    if type(value) is tuple:
        return [_taken(item) for item in value]
    if type(value) is dict:
        return {key: value[key] for key in sorted(value)}
    return value


def _foreign(value: Any) -> Any:
    """What orjson does not know."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    import numpy as np

    return np.ascontiguousarray(value)


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, bool], ...]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple((field.name, _winding(hints[field.name])) for field in _written(kind))


def _written(kind: Any) -> list[dataclasses.Field[Any]]:
    """A record's fields but for those that it derives from the others."""
    return [field for field in dataclasses.fields(kind) if field.init]


@functools.cache
def _winding(hint: Any) -> bool:
    """Whether a field's type holds, at any depth, what orjson would write otherwise."""
    if typing.get_origin(hint) is Annotated:
        return False
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        derives = len(_written(hint)) < len(dataclasses.fields(hint))
        return hasattr(hint, "KIND") or derives or any(winding for _, winding in _fields(hint))
    return typing.get_origin(hint) is dict or any(map(_winding, typing.get_args(hint)))


def _named(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a truth value",
        int: "a number",
    }
    return "nothing" if value is None else names.get(type(value), "a number")


def _mistyped(expected: str, value: Any) -> MalformedRecord:
    return MalformedRecord("mistyped", f"expected {expected}, found {_named(value)}")


# ---- one decoder for each type ------------------------------------------------------------


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _mistyped("text", value)
    if len(value) > LONGEST_TEXT:
        raise MalformedRecord("oversized", f"{len(value)} characters, at most {LONGEST_TEXT}")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise _mistyped("a whole number", value)
    if not -(2**63) <= value < 2**63:
        raise MalformedRecord("out-of-range", "a whole number beyond 64 bits")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise _mistyped("a number", value)
    number = float(value)
    if not math.isfinite(number):
        raise MalformedRecord("out-of-range", "a number that is not finite")
    return number


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise _mistyped("true or false", value)
    return value


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text_of_any_length(value), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise MalformedRecord("mistyped", "expected base64") from problem


def _text_of_any_length(value: Any) -> str:
    if type(value) is not str:
        raise _mistyped("text", value)
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise _mistyped("a list", value)
    if len(value) > LONGEST_LIST:
        raise MalformedRecord("oversized", f"{len(value)} items, at most {LONGEST_LIST}")
    return value


def _columns(value: Any) -> npt.NDArray[np.float64]:
    import numpy as np  # only who reads numbers needs it: a responder runs without

    columns = _list(value)
    if not columns:
        return np.empty((0, 0))
    width = len(_list(columns[0]))
    for at, column in enumerate(columns):
        if type(column) is not list or len(column) != width:
            raise MalformedRecord("mistyped", f"expected a list of {width} numbers", f"[{at}]")
        if not _NUMERIC.issuperset(map(type, column)):
            raise MalformedRecord("mistyped", "expected numbers or null", f"[{at}]")
    table = np.array(columns, dtype=np.float64)
    if np.isinf(table).any():
        at = int(np.isinf(table).any(axis=1).argmax())
        raise MalformedRecord("out-of-range", "a number that is not finite", f"[{at}]")
    return table


_NUMERIC: Final = frozenset((float, int, type(None)))


def _integers(value: Any) -> npt.NDArray[np.int64]:
    import numpy as np

    items = _list(value)
    if not frozenset((int,)).issuperset(map(type, items)):
        raise MalformedRecord("mistyped", "expected whole numbers")
    try:
        return np.array(items, dtype=np.int64)
    except OverflowError as problem:
        raise MalformedRecord("out-of-range", "a whole number beyond 64 bits") from problem


_SIMPLE: Final[dict[Any, Decoder]] = {
    str: _text, int: _integer, float: _number, bool: _truth, bytes: _bytes,
}  # fmt: skip  # one line reads better


@functools.cache
def _decoder(hint: Any) -> Decoder:
    """How to read one type; built once for each."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is not None:
        return _composed(origin, arguments)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choice(hint)
    if dataclasses.is_dataclass(hint):
        return _object(hint)  # type: ignore[arg-type]  # a dataclass type, not an instance
    raise TypeError(f"records cannot hold {hint}")


def _composed(origin: Any, arguments: tuple[Any, ...]) -> Decoder:
    if origin is Annotated:
        return {"columns": _columns, "integers": _integers}[arguments[1]]
    if origin is tuple:
        return _many(_decoder(arguments[0]))
    if origin is dict:
        return _mapping(_decoder(arguments[1]))
    if origin in (types.UnionType, typing.Union):
        return _either(arguments)
    raise TypeError(f"records cannot hold {origin}")


def _many(one: Decoder) -> Decoder:
    def read(value: Any) -> tuple[Any, ...]:
        items = _list(value)
        try:
            return tuple(map(one, items))
        except MalformedRecord:
            return tuple(_each_known(one, items))

    return read


def _each_known(one: Decoder, items: list[Any]) -> Iterator[Any]:
    for at, item in enumerate(items):
        with suppress(_LaterKind):
            yield _at(one, item, f"[{at}]")


class _LaterKind(MalformedRecord):
    """What only a later release knows."""


def _at(one: Decoder, item: Any, place: str) -> Any:
    try:
        return one(item)
    except MalformedRecord as problem:
        raise problem.under(place) from problem.__cause__


def _mapping(one: Decoder) -> Decoder:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _mistyped("an object", value)
        if len(value) > LONGEST_LIST:
            raise MalformedRecord("oversized", f"{len(value)} items, at most {LONGEST_LIST}")
        return {key: _at(one, item, key) for key, item in value.items()}

    return read


def _either(hints: tuple[Any, ...]) -> Decoder:
    """``X | None``, or a union of dataclasses told apart by their field ``kind``."""
    optional = type(None) in hints
    real = [hint for hint in hints if hint is not type(None)]
    if len(real) == 1:
        only = _decoder(real[0])
        return lambda value: None if value is None else only(value)
    kinds = {hint.KIND: _decoder(hint) for hint in real}

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        if type(value) is not dict:
            raise _mistyped("an object", value)
        kind = value.get("kind")
        if type(kind) is not str:
            raise _mistyped("text", kind).under("kind")
        if kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise _LaterKind("unknown-schema", f"expected one of {known}", "kind")
        return kinds[kind](value)

    return read


def _choice(hint: type[enum.Enum]) -> Decoder:
    members = {member.value: member for member in hint}

    def read(value: Any) -> enum.Enum:
        if type(value) is not str or value not in members:
            raise MalformedRecord("out-of-range", f"expected one of {', '.join(members)}")
        return members[value]

    return read


def _object(kind: type) -> Decoder:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = [
        (field.name, _decoder(hints[field.name]), _has_default(field)) for field in _written(kind)
    ]

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _mistyped("an object", value)
        try:
            return kind(*[one(value[name]) for name, one, _ in fields])
        except (KeyError, MalformedRecord):  # absent fields, and the place of what is wrong
            return kind(**_each(fields, value))

    return read


def _each(fields: list[tuple[str, Decoder, bool]], value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one, optional in fields:
        if name in value:
            try:
                found[name] = one(value[name])
            except MalformedRecord as problem:
                raise problem.under(name) from problem.__cause__
        elif not optional:
            raise MalformedRecord("missing", "a required field is absent", name)
    return found


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing
