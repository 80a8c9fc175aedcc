"""The binary form of a table of samples: lines of JSON, then the numbers as they lie in memory.

docs/records.md draws it byte by byte. What is few and has names (a batch's head, who its
members are) stays text, one JSON object a line, so that fields come and go as in the JSON
form; what is many is three arrays, little-endian, which a reader takes without a copy.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.errors import MalformedRecord
from models.records.codec import MAGIC

VERSION: Final = 1
MOST_LINES: Final = 100_000

_HEAD: Final = struct.Struct("<4sBcHII")  # magic, version, values, features, rows, text bytes
_VALUES: Final[dict[bytes, np.dtype[Any]]] = {b"d": np.dtype("<f8"), b"f": np.dtype("<f4")}
_TIMES: Final = np.dtype("<i8")
_INDEX: Final = np.dtype("<u4")
_ALIGNED: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """``lines`` are JSON objects, the first about the whole table, each other about one
    subject; ``index``, ``times_ns`` and ``columns`` are those of models.records.samples.
    """

    lines: Sequence[bytes]
    index: npt.NDArray[np.int64]
    times_ns: npt.NDArray[np.int64]
    columns: npt.NDArray[np.float64]


def write(table: Table) -> bytes:
    """The bytes of a table: same table, same bytes."""
    text = b"\n".join(table.lines)
    features, rows = table.columns.shape
    return b"".join((
        _HEAD.pack(MAGIC, VERSION, b"d", features, rows, len(text)), text,
        bytes(-(_HEAD.size + len(text)) % _ALIGNED),
        table.times_ns.astype(_TIMES).tobytes(), table.columns.astype(_VALUES[b"d"]).tobytes(),
        table.index.astype(_INDEX).tobytes(),
    ))  # fmt: skip  # in the order of the bytes


def read(data: bytes) -> Table:
    """The table that the bytes hold; its arrays may be views of them, not to be written to.
    Numbers are as they came: whoever makes samples of them checks them.

    Raises: MalformedRecord. Nothing is allocated for what the head merely claims.
    """
    if len(data) < _HEAD.size:
        raise MalformedRecord("undecodable", f"{len(data)} bytes, a head has {_HEAD.size}")
    _magic, version, values, features, rows, text_bytes = _HEAD.unpack_from(data)
    if version != VERSION:
        problem = f"binary format {version}, this release reads {VERSION}: upgrade the older side"
        raise MalformedRecord("unknown-schema", problem, "v")
    dtype = _VALUES.get(values)
    if dtype is None:
        problem = f"values of type {values!r}, this release reads d (float64) and f (float32)"
        raise MalformedRecord("unknown-schema", problem, "samples.columns")
    times_at = _HEAD.size + text_bytes
    times_at += -times_at % _ALIGNED
    columns_at = times_at + rows * _TIMES.itemsize
    index_at = columns_at + features * rows * dtype.itemsize
    end = index_at + rows * _INDEX.itemsize
    if end != len(data):
        problem = f"{len(data)} bytes, its head speaks of {end}: cut short, or not of one piece"
        raise MalformedRecord("undecodable", problem)
    columns = np.frombuffer(data, dtype, features * rows, columns_at).reshape(features, rows)
    return Table(
        _lines(data[_HEAD.size : _HEAD.size + text_bytes]),
        np.frombuffer(data, _INDEX, rows, index_at).astype(np.int64),
        np.frombuffer(data, _TIMES, rows, times_at).astype(np.int64, copy=False),
        columns.astype(np.float64, copy=False),
    )


def _lines(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")
    if len(lines) > MOST_LINES:
        raise MalformedRecord("oversized", f"{len(lines)} lines, at most {MOST_LINES}", "members")
    return lines
