"""Hostile input: what is valid with something wrong in it, and what is not valid at all.

The same generator gives the same input, so a failure is named by target, seed and number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

import orjson

MOST_BYTES: Final = 1 << 16
"""Larger input finds the same faults, slower; the bounds on size have tests of their own."""

NUMBERS: Final[tuple[Any, ...]] = (
    0, -1, 1, 2, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63),
    2**63, 2**64, 10**40, 0.0, -0.0, 0.5, 1e-323, 1e-9, 1e9, 1e17, 1e154, 1e300, 1.7e308, -1.7e308,
    946_684_800 * 10**9, 946_684_800 * 10**9 - 1, 4_102_444_800 * 10**9, 4_102_444_800 * 10**9 + 1,
    float("inf"), float("-inf"), float("nan"),
)  # fmt: skip  # by size
TEXTS: Final = (
    "", " ", "/", "//", ".", "..", "../../../etc/passwd", "host/", "host/h1", "default", "a" * 600,
    "a" * 512, "a" * 508, "é" * 512, "a" * 64, "\x00", "a\x00b", "\n", "\x1b[2J",
    "\u202etxt.exe", "\ufeff", "💥", "\U0010ffff",
    "İ", "%s%n", "${jndi:ldap://x}", "'; DROP TABLE samples; --", "=cmd()", "[x](y)", "<script>",
    "NaN", "null", "-0", "1e999", "0" * 64, "f" * 64, "2026-13-45T99:99:99Z", "::1", "999.1.1.1",
)  # fmt: skip  # by kind
OTHERS: Final[tuple[Any, ...]] = (None, True, False, [], {}, [[]], [None], {"": None}, {"v": 1})
CHUNKS: Final = (
    b"\x00", b"\xff", b"\xfe\xff", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud800", b":", b",",
    b"null", b"1e999", b"-", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"[" * 4000, b'{"a":' * 3000,
    b"9" * 400, b"PK\x03\x04", b"\x93NUMPY", b"\n", b"=", b" ", b"\r\n", b"\x80\x04\x95",
)  # fmt: skip  # by kind


def hostile(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Input made from one of the seeds, or of two; now and then the seed itself."""
    seed = rng.choice(seeds)
    how = rng.random()
    if how < 0.02:
        return seed
    if how < 0.07:
        return rng.randbytes(rng.choice((0, 1, 2, 3, 8, 64, 500)))
    if how < 0.75:
        tree = _tree(seed)
        if tree is not None:
            return _grown(rng, tree, _tree(rng.choice(seeds)))
    return _bitten(rng, seed, rng.choice(seeds))[:MOST_BYTES]


def _tree(seed: bytes) -> Any:
    try:
        tree = orjson.loads(seed)
    except orjson.JSONDecodeError:
        return None
    return tree if isinstance(tree, dict | list) and tree else None


# ---- almost right --------------------------------------------------------------------------


def _grown(rng: Random, tree: Any, other: Any) -> bytes:
    places = list(_places(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        holder, key = rng.choice(places)
        _change(rng, holder, key, places, other)
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")[:MOST_BYTES]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _change(rng: Random, holder: Any, key: Any, places: list[Any], other: Any) -> None:
    """One place made wrong; what an earlier change has taken away is left alone."""
    if key not in holder if isinstance(holder, dict) else key >= len(holder):
        return
    how = rng.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1:
        elsewhere, at = rng.choice(places)
        found = elsewhere.get(at) if isinstance(elsewhere, dict) else None
        holder[key] = json.loads(json.dumps(found))
    elif how == 2 and isinstance(holder, list):
        holder[key:key] = [holder[key]] * rng.choice((1, 2, 40))
    elif how == 2:
        holder[rng.choice(TEXTS)] = holder[key]
    elif how == 3 and isinstance(other, dict | list):
        elsewhere, at = rng.choice(list(_places(other)))
        holder[key] = elsewhere[at]
    else:
        holder[key] = _odd(rng, holder[key])


def _odd(rng: Random, value: Any) -> Any:
    """Of the same type more often than not: that gets past the first check."""
    if type(value) in (int, float) and rng.random() < 0.7:
        near = (value + 1, value - 1, -value, value * 2, value * 10**9, value / 3, float(value))
        return rng.choice((*near, *NUMBERS))
    if isinstance(value, str) and rng.random() < 0.7:
        return rng.choice((value + rng.choice(TEXTS), value[: len(value) // 2], *TEXTS))
    if isinstance(value, list) and rng.random() < 0.5:
        shuffled = value * rng.choice((1, 2))
        rng.shuffle(shuffled)
        return shuffled
    return rng.choice((rng.choice(NUMBERS), rng.choice(TEXTS), rng.choice(OTHERS)))


# ---- not right at all ----------------------------------------------------------------------


def _bitten(rng: Random, seed: bytes, other: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 30)))
        how = rng.randrange(6)
        if how == 0:
            del data[at:end]
        elif how == 1:
            data[at:at] = rng.choice(CHUNKS)
        elif how == 2 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 3:
            data[at:end] = rng.randbytes(end - at)
        elif how == 4:
            data = data[:at]
        else:
            start = rng.randrange(len(other) + 1)
            data[at:end] = other[start : start + rng.choice((1, 4, 30, 300))]
    return bytes(data)
