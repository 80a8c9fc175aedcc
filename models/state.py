"""What is known of one group (scope, lineage, role): a value, and its rows of bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from models.errors import MalformedRecord

FORMAT = 1


@dataclass(slots=True)
class LineageState:
    """``due_ns``: no tick before that time changes anything."""

    due_ns: int = 0
    last_ns: dict[str, int] = field(default_factory=dict)


def pack(state: LineageState) -> dict[str, bytes]:
    """Row name → body; rows whose body is the same bytes need not be written again."""
    return {"l": orjson.dumps({"v": FORMAT, "due_ns": state.due_ns, "last_ns": state.last_ns})}


def unpack(rows: dict[str, bytes]) -> LineageState:
    """The state that :func:`pack` wrote.

    Raises: MalformedRecord for bytes that are not, or of a version unknown here.
    """
    body = orjson.loads(rows["l"])
    if body["v"] != FORMAT:
        raise MalformedRecord("unknown-schema", f"state of format {body['v']}", "l")
    return LineageState(body["due_ns"], body["last_ns"])
