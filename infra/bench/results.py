"""What benchmarks leave behind: one file, a key each."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any, Final

import orjson

RESULTS: Final = Path(__file__).parents[2] / "build" / "bench.json"


def record(key: str, value: Any) -> None:
    """Put one benchmark's result beside those of the others, which may end just now as well."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = orjson.loads(file.read() or b"{}")
        file.truncate(0)
        file.write(orjson.dumps(known | {key: value}, option=orjson.OPT_INDENT_2) + b"\n")
