"""Commands under hostile arguments and files: the command line itself, without a network.

An input is a JSON object: ``command``, its ``arguments``, and ``file``, the text of the file
``given`` that they may name; any other bytes are arguments of one command or another. Kafka
can't be reached, because the file with its password is missing; a part that would go on running
meets a settings file that is missing. Both are refused as in any deployment.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from zlib import crc32

import orjson
import structlog

from streams import cli
from tests.fuzz import seeds

RUNNING: Final = frozenset(
    {"archive", "collect", "demo", "gather", "govern", "respond", "up", "worker"}
)
GROUPS: Final = frozenset(
    {"alerts", "baseline", "config", "incident", "keys", "models", "report", "topics"}
)
NOWHERE: Final = "nowhere/there"
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="plimsoll-calls-")
_DEEP: Final = "a/b/c/d/e/f"
"""Where commands run: what climbs out of it stays in our folder."""
_MOST_ARGUMENTS: Final = 24

CALLS: Final[tuple[tuple[str, ...], ...]] = (
    ("alerts", "tail", "--from-beginning", "--level=compromised", "--until-end", "--json"),
    ("archive", "--dir=archive", "--lot-s=5"),
    ("baseline", "list", "--json"),
    ("baseline", "show", "local/shop/cart", "--image=local/shop/cart@sha256:aa", "--json"),
    ("baseline", "diff", "local/shop/cart", "--before=a", "--after=b", "--all"),
    ("baseline", "export", "local/shop/cart", "--image=a", "--out=out.json"),
    ("baseline", "import", "given", "--lineage=local/shop/cart", "--from=2026-11-25T10:00:00Z",
     "--because=why", "--key=operator", "--dry-run"),
    ("baseline", "import", "given", "--full", "--json"),
    ("baseline", "lessons", "local/shop/cart"),
    ("baseline", "undo", "local/shop/cart", "lesson-1", "--wait=1"),
    ("collect", "--source=simulated", "--sample-period-s=1", "--frame-interval-s=1",
     "--pool=edge", "--once", "--dry-run", "--json", "--metrics-port=0"),
    ("config", "show", "--json"), ("config", "check"), ("config", "docs", "--out=docs.md"),
    ("--config=given", "config", "check"), ("--config=given", "config", "show"),
    ("--log-level=debug", "config", "check"),
    ("demo", "--seed=7", "--story=miner", "--pace=60", "--directory=demo", "--json"),
    ("doctor", "keys", "--json"), ("doctor", "collect", "respond"),
    ("evaluate", "given", "--out=answers.npz", "--budget=1.0", "--json"),
    ("explain", "incident-1", "--from=-24h", "--replay", "--json"),
    ("gather", "--group=g", "--clock=log", "--tick-s=5", "--metrics-port=9100"),
    ("govern", "--policy=given", "--mode=observe", "--group=g", "--dry-run", "--json"),
    ("incident", "list", "--all"), ("incident", "show", "incident-1", "--json"),
    ("incident", "verify", "incident-1"),
    ("incident", "report", "incident-1", "--out=report.html", "--json"),
    ("incident", "approve", "incident-1", "--because=why", "--key=operator", "--wait=1"),
    ("incident", "release", "incident-1", "--dry-run"), ("incident", "confirm", "incident-1"),
    ("incident", "dismiss", "incident-1", "--for=30", "--json"),
    ("incident", "extend", "incident-1", "--hours=2"), ("incident", "stop-orders",),
    ("incident", "resume-orders", "--wait=0"), ("incident", "hold", "h1", "--minutes=5"),
    ("incident", "suppress", "local/shop/cart", "--minutes=5"),
    ("keys", "init", "--dir=keys", "--json"),
    ("keys", "create", "alice", "--role=operator", "--days=3", "--dir=keys"),
    ("keys", "rotate", "governor", "--overlap-hours=24", "--dir=keys"),
    ("keys", "revoke", "alice-0123456789ab", "--dir=keys", "--json"),
    ("keys", "list", "--dir=keys"),
    ("models", "list", "--json"), ("models", "show", "forest-1"),
    ("models", "compare", "forest-1", "forest-2", "--from=-2h", "--until=-1h", "--replay"),
    ("models", "compare", "forest-1", "forest-2", "--archive=archive", "--json"),
    ("models", "promote", "forest-1", "--stage=shadow", "--from=2026-11-25T10:00:00Z",
     "--without-replay=why", "--dry-run"),
    ("models", "rollback", "--from=-1h", "--image=local/shop/cart"),
    ("models", "retire", "forest-1", "--because=why", "--json"),
    ("query", "SELECT count(*) FROM samples", "--dir=archive", "--csv"),
    ("query", "SELECT 1", "--dir=archive", "--json"), ("query", "SELECT 1",),
    ("rebuild", "--partition=0", "--partition=1", "--group=g", "--dry-run", "--json"),
    ("replay", "--from=-2h", "--until=-1h", "--model=forest-1", "--policy=given",
     "--alarms-per-day=5", "--most-isolations=0", "--record", "--key=operator"),
    ("report", "usage", "--days=7", "--out=usage.html", "--csv=csv", "--dir=archive"),
    ("respond", "--platform=docker", "--host=h1"),
    ("topics", "acls", "worker", "govern", "--principal=User:CN={part}", "--command-config=given",
     "--markdown"), ("topics", "acls", "--json"),
    ("topics", "create", "--replication=1", "--partitions=4", "--update", "--dry-run"),
    ("topics", "list"), ("topics", "diff", "--replication=1", "--partitions=4", "--json"),
    ("train", "--from=-2h", "--until=-1h", "--seed=1", "--image=local/shop/cart",
     "--key=trainer", "--dry-run", "--json"),
    ("up", "--parts=gather,worker"), ("worker", "--group=g"), ("version",), ("--help",),
)  # fmt: skip  # a call a line where it fits
"""Valid calls of every command, from which hostile ones are made."""


class Crashed(Exception):
    """A call that ended in a traceback, or in silence."""


@cache
def written() -> Sequence[bytes]:
    given = (b"", seeds.POLICY, seeds.SETTINGS, seeds.case_files()[0], *seeds.baseline_files()[:2])
    files = [one.decode("latin-1") for one in given]
    return [
        orjson.dumps({"command": " ".join(command), "arguments": rest, "file": file})
        for at, (command, rest) in enumerate(map(_split, CALLS))
        for file in (files if "given" in " ".join(rest) else files[at % len(files) :][:1])
    ]


def _split(call: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The command's words, and what it is given."""
    words = 2 if call[0] in GROUPS else 1
    return call[:words], call[words:]


def called(data: bytes) -> None:
    """Raises: what a call should never end in."""
    arguments, file = _call(data)
    home = Path(_FOLDER.name) / str(os.getpid())  # the processes that share the work were forked
    shutil.rmtree(home, ignore_errors=True)
    (home / _DEEP).mkdir(parents=True)
    kept = [_kept(home, one) for one in arguments]
    with contextlib.chdir(home / _DEEP), _deployed(home, runs=bool(RUNNING & {*arguments})):
        Path("given").write_bytes(file)
        code, said = _run(kept)
    if code not in (0, 1, 2):
        raise Crashed(f"exit code {code!r} after {said[-300:]!r}")
    if "Traceback (most recent call last)" in said:
        raise Crashed(said[-300:])
    if code and not said.strip():
        raise Crashed(f"exit code {code}, and not a word")


def _call(data: bytes) -> tuple[list[str], bytes]:
    """Arguments and file."""
    try:
        told = orjson.loads(data)
        command, arguments, file = told["command"], told["arguments"], told.get("file")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        command = " ".join(_split(CALLS[crc32(data) % len(CALLS)])[0])
        arguments, file = data.decode(errors="surrogateescape").split(), data.decode("latin-1")
    given = arguments if isinstance(arguments, list) else [arguments]
    # No system passes a zero byte.
    texts = [one.replace("\0", "") for one in (*str(command).split(), *map(str, given))]
    return texts[:_MOST_ARGUMENTS], str(file).encode("latin-1", "replace")


def _kept(home: Path, argument: str) -> str:
    """Nothing outside of our folder is written to, however absolute its path."""
    name, equals, value = argument.partition("=")
    if argument.startswith("/"):
        return f"{home}{argument}"
    return f"{name}={home}{value}" if equals and value.startswith("/") else argument


@contextlib.contextmanager
def _deployed(home: Path, *, runs: bool) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if "PLIMSOLL" not in name}
    environment |= {
        "PLIMSOLL_DATA_DIR": str(home / "data"), "HOME": str(home), "COLUMNS": "100",
        "PLIMSOLL_KAFKA__SECURITY_PROTOCOL": "sasl_plaintext",
        "PLIMSOLL_KAFKA__BOOTSTRAP": "127.0.0.1:9", "PLIMSOLL_KAFKA__USERNAME": "nobody",
        "PLIMSOLL_KAFKA__PASSWORD_FILE": str(home / NOWHERE),
    }  # fmt: skip  # by subject
    if runs:
        environment["PLIMSOLL_CONFIG"] = str(home / NOWHERE)
    with patch.dict(os.environ, environment, clear=True), patch.object(cli, "become", _becomes):
        yield


def _becomes(*_: Any) -> None:
    """The process would be another program from here on."""


def _run(arguments: list[str]) -> tuple[Any, str]:
    """The exit code, and all that was said. Raises: whatever is no way for a command to end."""
    said = io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main(arguments)
        except SystemExit as ended:
            code = 0 if ended.code is None else ended.code
        finally:
            structlog.reset_defaults()
    return code, said.getvalue()
