"""A part in a process that holds what it needs, and nothing of what it took to begin.

Typer and pydantic parse flags and check settings; together with what they bring they are a
quarter of a collector's memory, for months after they have done their work. So the command
becomes another program (exec: the same process to whoever supervises it), which gets the
settings as plain values through a pipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from models.errors import BrokerUnreachable, ConfigurationError, PlimsollError
from models.part import Part
from models.settings import Kafka

if TYPE_CHECKING:
    from streams.settings import Logs

ARENAS: Final = {"MALLOC_ARENA_MAX": "1"}
"""One heap for all threads: none of them allocates enough for its own to be worth its pages."""


def become(part: Part, logs: Logs) -> NoReturn:
    """Run the part in this process's place."""
    told = {
        "name": part.name, "run": part.run, "settings": handed(part.settings),
        "options": part.options, "logs": [logs.level, logs.form],
    }  # fmt: skip  # by subject
    reading, writing = os.pipe()
    os.write(writing, orjson.dumps(told))  # far less than a pipe holds
    os.close(writing)
    os.set_inheritable(reading, True)  # noqa: FBT003  # the system's signature
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # -P: nothing is imported from the folder that we happen to be called in.
    arguments = (sys.executable, "-P", "-m", "streams.lean", "plimsoll", part.name, str(reading))
    os.execve(sys.executable, arguments, {**ARENAS, **os.environ})  # noqa: S606  # ourselves


def main() -> None:
    """The other program. What it is told stands in the pipe that its last argument names."""
    with os.fdopen(int(sys.argv[-1]), "rb") as pipe:
        told = orjson.loads(pipe.read())
    with without("rich"):
        from streams.meters import configure_logs

    level, form = told["logs"]
    configure_logs(level, form)
    part = Part(told["name"], told["run"], taken(told["settings"]), told["options"])
    try:
        part.begin()
    except PlimsollError as problem:
        sys.stderr.write(f"{line_of(problem)}\n")
        sys.exit(code_of(problem))


def line_of(problem: PlimsollError) -> str:
    """What the command line says of a failure."""
    clear = isinstance(problem, ConfigurationError | BrokerUnreachable)
    return f"plimsoll: {'' if clear else f'{type(problem).__name__}: '}{problem}"


def code_of(problem: PlimsollError) -> int:
    """And the exit code that goes with it."""
    return 2 if isinstance(problem, ConfigurationError) else 1


@contextmanager
def without(module: str) -> Iterator[None]:
    """What is imported meanwhile finds no such module; later it is there as ever.

    structlog would load rich, for tracebacks that ``configure_logs`` writes otherwise.
    """
    known = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]  # how an import is told to fail
    try:
        yield
    finally:
        del sys.modules[module]
        if known is not None:
            sys.modules[module] = known


def handed(value: Any) -> Any:
    """Settings as JSON can hold them, for :func:`taken`."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, tuple):
        return {"several": [handed(item) for item in value]}
    if isinstance(value, Kafka):
        return {"kafka": {one.name: handed(getattr(value, one.name)) for one in fields(value)}}
    return {"table": {name: handed(item) for name, item in vars(value).items()}}


def taken(told: Any) -> Any:
    """The same values under the same names; of what checked them nothing is left."""
    if not isinstance(told, dict):
        return told
    (kind, held), *_ = told.items()
    if kind == "path":
        return Path(held)
    if kind == "several":
        return tuple(taken(item) for item in held)
    values = {name: taken(item) for name, item in held.items()}
    return Kafka(**values) if kind == "kafka" else SimpleNamespace(**values)


if __name__ == "__main__":
    main()
