"""Where the program reads bytes or text that somebody else wrote: found in the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("models", "producers", "streams")
READERS: Final = frozenset({
    "b64decode", "decode", "from_binary", "from_bytes", "frombuffer", "fromhex", "fromisoformat",
    "inet_ntop", "load_pem_private_key", "loads", "read_parquet", "ParquetFile", "unpack",
    "unpack_from", "strptime",
})  # fmt: skip  # a list to read across
"""Functions that make something of bytes or text, by their last name."""


def sites() -> set[str]:
    """``package.module:Class.function`` of each function that calls one of the readers."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            tree = ast.parse(path.read_text())
            found |= {f"{module}:{name}" for name in _within(tree, "")}
    return found


def _within(node: ast.AST, name: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _within(child, f"{name}.{child.name}" if name else child.name)
        else:
            if isinstance(child, ast.Call) and _reads(child):
                yield name
            yield from _within(child, name)


def _reads(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in READERS
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "load":  # numpy's; others' own are found by what they call
        return isinstance(function.value, ast.Name) and function.value.id == "np"
    # Text of bytes can always be had where errors are replaced, and of what orjson wrote.
    harmless = function.attr == "decode" and (call.keywords or _is_dumps(function.value))
    return function.attr in READERS and not harmless


def _is_dumps(value: ast.AST) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in ("orjson.dumps", "encode")
