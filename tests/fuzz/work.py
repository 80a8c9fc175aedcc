"""One share of the work: so many inputs for one target, line or for the governor's sequences."""

from __future__ import annotations

import base64
import logging
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Literal

import orjson
import structlog

from tests.core.sequences import POLICIES, Step, lived, shortest
from tests.core.sequences import drawn as drawn_sequence
from tests.fuzz import lines, targets
from tests.fuzz.hostile import hostile

Kind = Literal["drawn", "guided", "line", "sequence"]
AT_ONCE: Final = 40
"""Hostile messages among the neighbours of a line."""
SMALLER_S: Final = 30.0
"""For so long a failure is made smaller."""
PATIENCE_S: Final = 120
"""Longer than this a share of a few hundred inputs takes only where one of them hangs."""


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` inputs from number ``start`` on."""

    kind: Kind
    name: str
    seed: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Failure:
    """``content`` is the input that failed, as small as it could be made."""

    name: str
    seed: int
    number: int
    problem: str
    content: bytes


@dataclass(slots=True)
class Done:
    """What came of a share: ``refused`` inputs ended in one of our own errors."""

    inputs: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)


class Hangs(Exception):
    """An input took so long that the part would stand still."""


def work(share: Share) -> Done:
    """Feed a share; never raises for what an input did."""
    quieted()
    kinds: dict[Kind, Callable[[Share, Done], None]] = {
        "drawn": _drawn, "guided": _guided, "line": _line, "sequence": _sequences,
    }  # fmt: skip  # a table
    done = Done()
    kinds[share.kind](share, done)
    return done


def quieted() -> None:
    """Rejected records are told by the thousand; numpy's warnings of overflow are faults."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    warnings.simplefilter("error", RuntimeWarning)
    warnings.filterwarnings("ignore", ".*additional header parsing.*", UserWarning)


@contextmanager
def in_time(seconds: int = PATIENCE_S) -> Iterator[None]:
    def ring(_number: int, _frame: object) -> None:
        raise Hangs(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ---- targets ---------------------------------------------------------------------------------


def fed(target: targets.Target, data: bytes) -> bool:
    """Whether it was refused. Raises: what should never have left the target."""
    try:
        target.feed(data)
    except target.refuses:
        return True
    return False


def _drawn(share: Share, done: Done) -> None:
    target = targets.BY_NAME[share.name]
    known = list(target.seeds())
    for number in range(share.start, share.start + share.count):
        data = hostile(Random(f"{share.seed}/{share.name}/{number}"), known)
        done.inputs += 1
        try:
            with in_time():
                done.refused += fed(target, data)
        except Exception as problem:  # noqa: BLE001  # whatever it is, it is what we look for
            small = _smaller(target, data, type(problem))
            done.failures.append(Failure(share.name, share.seed, number, _told(problem), small))


def _smaller(target: targets.Target, data: bytes, kind: type[Exception]) -> bytes:
    """The input without what the failure does not need: halves, then quarters … For so long as
    a person would wait.
    """
    until_s = time.monotonic() + SMALLER_S

    def fails(one: bytes) -> bool:
        try:
            with in_time():
                fed(target, one)
        except Exception as problem:  # noqa: BLE001  # as above
            return type(problem) is kind
        return False

    step = max(len(data) // 2, 1) if kind is not Hangs else 0
    while step and len(data) > 1:
        at = 0
        while at < len(data) and time.monotonic() < until_s:
            fewer = data[:at] + data[at + step :]
            if fails(fewer):
                data = fewer
            else:
                at += step
        step //= 2
    return data


def _told(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"[:400]


# ---- guided ----------------------------------------------------------------------------------


def _guided(share: Share, done: Done) -> None:
    """In a process of its own: libFuzzer does not return, and ends at the first failure."""
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            (sys.executable, "-m", "tests.fuzz.guided", share.name, folder, str(share.count),
             str(share.seed + share.start)),
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip  # the call in one piece
        found = Path(folder) / "problem"
        done.inputs = share.count
        if found.exists():
            name, problem, content = found.read_bytes().split(b"\n", 2)
            told = name.decode(), share.seed, share.start, problem.decode()
            done.failures.append(Failure(*told, content))
        elif ended.returncode:
            raise RuntimeError(f"the guided fuzzer ended: {ended.stderr[-2_000:]}")


# ---- lines -----------------------------------------------------------------------------------


def _line(share: Share, done: Done) -> None:
    line = next(one for one in lines.LINES if one.name == share.name)
    for start in range(share.start, share.start + share.count, AT_ONCE):
        rng = Random(f"{share.seed}/{share.name}/{start}")
        messages = lines.drawn(line, rng, min(AT_ONCE, share.start + share.count - start))
        done.inputs += len(messages)
        try:
            with in_time():
                line.take(messages)
        except Exception as problem:  # noqa: BLE001  # whatever it is, it is what we look for
            small = fewest(line, messages)
            told = Failure(share.name, share.seed, start, _told(problem), packed(small))
            done.failures.append(told)


def fewest(line: lines.Line, messages: Sequence[lines.Message]) -> list[lines.Message]:
    """The messages without those that a failure does not need."""
    left, at = list(messages), 0
    while at < len(left):
        fewer = left[:at] + left[at + 1 :]
        try:
            line.take(fewer)
        except Exception:  # noqa: BLE001  # as above
            left = fewer
        else:
            at += 1
    return left


def packed(messages: Sequence[lines.Message]) -> bytes:
    """Messages as a file of tests/fuzz/found holds them."""

    def text(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    told = [
        {"role": one.role, "kind": one.kind, "key": text(one.key), "value": text(one.value)}
        for one in messages
    ]
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def unpacked(content: bytes) -> list[lines.Message]:
    def data(value: str | None) -> bytes | None:
        return None if value is None else base64.b64decode(value)

    return [
        lines.Message(one["role"], one["kind"], data(one["key"]), data(one["value"]))
        for one in orjson.loads(content)
    ]


# ---- the governor's sequences ----------------------------------------------------------------


def _sequences(share: Share, done: Done) -> None:
    for number in range(share.start, share.start + share.count):
        policy = POLICIES[number % len(POLICIES)]
        steps: list[Step] = drawn_sequence(Random(f"{share.seed}/{number}"))
        done.inputs += 1
        try:
            with in_time():
                lived(policy, steps)
        except Exception as problem:  # noqa: BLE001  # whatever it is, it is what we look for
            least = f"{policy.mode} {shortest(policy, steps)!r}".encode()
            failure = Failure(share.name, share.seed, number, _told(problem), least)
            done.failures.append(failure)
