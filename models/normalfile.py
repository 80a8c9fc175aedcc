"""A baseline's file, read strictly: what people have edited or carried from elsewhere.

The file is what `plimsoll baseline export` writes, as TOML or JSON. A name that is not known, a
value that cannot be, and nothing of the file is used.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from models.errors import UntrustedFile
from models.features import FEATURES, INDEX
from models.normal import Normal
from models.records.lesson import MOST_FACT_BYTES, MOST_FACTS, Usual

_TEXTS: Final = ("scope", "lineage", "role", "image")
_NUMBERS: Final = ("known", "container_blocks", "line")
_KNOWN: Final = (*_TEXTS, "first_ns", *_NUMBERS, "facts", "features")
_VALUES: Final = ("usual", "low", "high", "deviation", "blocks")
MOST_BYTES: Final = 4 << 20


def read_normal(content: bytes, source: str) -> Normal:
    """The baseline of a file; ``source`` names it in errors.

    Raises: UntrustedFile, which names every fault at once.
    """
    said, faults = _parsed(content, source), list[str]()
    found = _normal(said, faults)
    if faults or found is None:
        listed = "\n  ".join(faults)
        raise UntrustedFile(
            f"{source} cannot be used ({len(faults)} faults); `plimsoll baseline export` writes "
            f"one that can:\n  {listed}"
        )
    return found


def _parsed(content: bytes, source: str) -> Mapping[str, Any]:
    if len(content) > MOST_BYTES:
        raise UntrustedFile(f"{source} has {len(content)} bytes, at most {MOST_BYTES}: not read")
    try:
        text = content.decode()
        said = orjson.loads(text) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise UntrustedFile(
            f"{source} is neither TOML nor JSON: {problem}; nothing of it is used"
        ) from problem
    if not isinstance(said, dict):
        raise UntrustedFile(f"{source} holds no table; nothing of it is used")
    return said


def _normal(said: Mapping[str, Any], faults: list[str]) -> Normal | None:
    _strange("", said, _KNOWN, faults)
    texts = {name: _text(said, name, faults) for name in _TEXTS}
    faults += [f"{n}: must not be empty" for n in ("lineage", "image") if said.get(n) == ""]
    numbers = {name: _number(said.get(name, 0.0), name, faults) for name in _NUMBERS}
    first_ns = said.get("first_ns", 0)
    if type(first_ns) is not int:
        faults.append(f"first_ns = {first_ns!r}: expected whole nanoseconds")
    features = _features(said.get("features", {}), faults)
    facts = _facts(said.get("facts", []), faults)
    if faults:
        return None
    return Normal(
        texts["scope"], texts["lineage"], texts["role"], texts["image"], first_ns,
        numbers["known"], numbers["container_blocks"], numbers["line"], features, facts,
    )  # fmt: skip  # as the fields lie


def _features(said: Any, faults: list[str]) -> tuple[Usual, ...]:
    """By name in a table (TOML), or as a list with names (JSON)."""
    if type(said) is list and all(type(one) is dict for one in said):
        named = [(one.get("feature"), {k: one[k] for k in one if k != "feature"}) for one in said]
    elif type(said) is dict:
        named = list(said.items())
    else:
        faults.append("features: expected a table by feature")
        return ()
    if len({str(name) for name, _ in named}) < len(named):
        faults.append("features: one of them stands there twice")
    return tuple(one for name, table in named if (one := _usual(name, table, faults)) is not None)


def _usual(name: Any, table: Any, faults: list[str]) -> Usual | None:
    place = f"features.{name}"
    if type(name) is not str or name not in INDEX:
        close = ", ".join(feature.name for feature in FEATURES)
        faults.append(f"{place}: there is no such feature; known are {close}")
        return None
    if type(table) is not dict:
        faults.append(f"{place}: expected a table")
        return None
    _strange(place, table, ("unit", *_VALUES), faults)
    unit, ours = table.get("unit"), FEATURES[INDEX[name]].unit
    if unit != ours:
        faults.append(f"{place}.unit = {unit!r}: expected {ours!r}")
    before = len(faults)
    values = [_number(table.get(field), f"{place}.{field}", faults) for field in _VALUES]
    if len(faults) > before:
        return None
    one = Usual(name, ours, *values)
    for field, expected in one.faults():
        faults.append(f"{place}.{field} = {getattr(one, field):g}: expected {expected}")
    return one


def _facts(said: Any, faults: list[str]) -> tuple[str, ...]:
    if type(said) is not list or not all(type(one) is str and one for one in said):
        faults.append('facts: expected a list such as ["peer 192.0.2.7:443"]')
        return ()
    if len(said) > MOST_FACTS or sum(len(one.encode()) for one in said) > MOST_FACT_BYTES:
        faults.append(
            f"facts: {len(said)} of them; at most {MOST_FACTS}, {MOST_FACT_BYTES} bytes together"
        )
    faults += [
        f"facts: {one!r} begins with no kind, as in 'peer 192.0.2.7:443'"
        for one in said if " " not in one
    ]  # fmt: skip  # one condition
    return tuple(dict.fromkeys(said))


def _text(said: Mapping[str, Any], name: str, faults: list[str]) -> str:
    value = said.get(name, "" if name in ("role", "scope") else None)
    if type(value) is not str or not value.isprintable() or len(value) > 512:
        faults.append(f"{name} = {value!r}: expected text of up to 512 characters")
        return ""
    return value


def _number(value: Any, place: str, faults: list[str]) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        faults.append(f"{place} = {value!r}: expected a number, 0 or more")
        return 0.0
    return float(value)


def _strange(
    place: str, table: Mapping[str, Any], known: tuple[str, ...], faults: list[str]
) -> None:
    for name in sorted(map(str, table.keys() - set(known))):
        at = f"{place}.{name}" if place else name
        faults.append(f"{at}: there is no such entry; known are {', '.join(known)}")
