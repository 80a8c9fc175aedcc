"""What was found stays mended, all that reads is registered, and the search can find."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
import typer
from rich.console import Console

from models.pipeline import judge as judged_really
from models.settings import Kafka
from producers.sources import names as sources
from streams import cli
from streams.agents import judge as agent
from tests.fuzz import calls, targets, work
from tests.fuzz.__main__ import GUIDED, run, shares
from tests.fuzz.lines import LINES
from tests.fuzz.sites import PACKAGES, ROOT, sites
from tests.fuzz.targets import BY_NAME, TARGETS, Target
from tests.fuzz.work import Share

FOUND: Final = sorted(
    path for path in (Path(__file__).parent / "found").rglob("*") if path.is_file()
)
TARGET_OF: Final = {name.replace("/", "-"): target for name, target in BY_NAME.items()}
LINE_OF: Final = {line.name: line for line in LINES}

COVERED: Final = {
    "by models/lesson": ("streams.lessons:opener.opened",),
    "by the judge's line": ("models.admission:admitted",),
    "by the governor's line": ("streams.agents.govern:Governor._decoded",
                               "streams.agents.govern:Governor._word"),
    "by gather's line": ("producers.gather.intake:read_frame",
                         "producers.gather.registry:Registry._read"),
    "by the responder's line": ("streams.responders.reception:Reception.received",
                                "streams.responders.reception:_claimed"),
    "by the archive's line": tuple(
        f"streams.archive.tables:_{name}"
        for name in ("evidence", "lesson", "findings", "inventory", "orders", "outcomes",
                     "rejected",
                     "telemetry", "ticks", "verdicts")
    ),
}  # fmt: skip  # by line
EXEMPT: Final = {
    "models.contract:murmur2": "arithmetic over any bytes; its own tests compare clients",
    "producers.sources.docker.files:_text": "text of any path, by a codec that refuses nothing",
    "producers.sources.docker.host:_addresses_v6": "the kernel's list of this host's addresses",
    "producers.sources.docker.netlink:dumped": "the kernel's socket; entries are a target",
    "streams.archive.compaction:_grouped": "the archive's own Parquet; damage is ArchiveUnusable",
    "streams.archive.decided:_read": "the archive's own Parquet; damage is ArchiveUnusable",
    "streams.archive.telemetry:_ends": "the archive's own Parquet; damage is ArchiveUnusable",
    "streams.archive.telemetry:_groups": "the archive's own Parquet; damage is ArchiveUnusable",
    "streams.archive.layout:days": "folders' names, matched by a pattern first",
    "streams.archive.lot:_leaves": "an empty table that it has just written",
    "streams.commands.query:_readable": "values of a result, shown with what they hold",
    "streams.delivery.rejected:Rejects.decoded": "hands over, keeps what is refused",
    "streams.demo.notes:NoteTaker._finding": "the demo's own records on its own broker",
    "streams.demo.notes:NoteTaker._order": "the demo's own records on its own broker",
    "streams.demo.notes:NoteTaker._outcome": "the demo's own records on its own broker",
    "streams.demo.notes:NoteTaker._read": "the demo's own records on its own broker",
    "streams.demo.notes:NoteTaker._rejected": "the demo's own records on its own broker",
    "streams.demo.notes:NoteTaker._verdict": "the demo's own records on its own broker",
    "streams.lean:main": "what this very process has handed over",
    "streams.responders.course:_before": "what the responder wrote to its own store",
    "streams.responders.docker.proc:_address": "the kernel's list of sockets",
    "streams.responders.recorder:FlightRecorder._frames": "passes over what the decoder refuses",
    "streams.responders.outbox:Outbox._letter": "what the responder wrote to its own store",
    "streams.responders.outbox:Outbox._outcome": "what the responder wrote to its own store",
    "streams.responders.store:ResponderStore._cases": "what the responder wrote to its own store",
    "streams.stores.decided:_orders": "passes over what the decoder refuses",
    "streams.stores.decided:_readable": "passes over what the decoder refuses",
    "streams.stores.incidents:Incidents._take": "tells of what the decoder refuses",
    "streams.stores.incidents:Incidents.telemetry": "tells of what the decoder refuses",
    "streams.stores.models:ModelStore.save_card": "the payload that it has just signed",
    "streams.tables:Rows._index": "rows of our own table, under keys that we wrote",
    "streams.tables:Rows.head": "hands over to the marker's decoder",
    "streams.tables:Rows._marker": "hands over to the marker's decoder",
    "streams.tables:Rows._wanted": "hands over to the row's decoder",
    "streams.words:Speaker._answer": "ends the command with the decoder's own error",
}
"""Places that read and need no target of their own, each with its reason."""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


# ---- what was found ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_stays_mended(path: Path) -> None:
    """Each of these has ended a process, or would have taken its neighbours along."""
    if path.parent.name in LINE_OF:
        LINE_OF[path.parent.name].take(work.unpacked(path.read_bytes()))
    else:
        work.fed(TARGET_OF[path.parent.name], path.read_bytes())


# ---- the register -----------------------------------------------------------------------------


def test_whatever_reads_is_a_target_or_says_why_not() -> None:
    """A new decoder that nobody feeds hostile bytes is where the next crash lives."""
    named = {site for target in TARGETS for site in target.reads}
    named |= {site for some in COVERED.values() for site in some}
    exempt = set(EXEMPT)

    assert sites() - named - exempt == set(), "new readers: register them in targets.py"
    assert exempt - sites() == set(), "exemptions for what is gone"
    assert not exempt & named


@pytest.mark.parametrize("site", sorted({site for one in TARGETS for site in one.reads}))
def test_what_a_target_reads_exists(site: str) -> None:
    module, _, name = site.partition(":")
    functools.reduce(getattr, name.split("."), importlib.import_module(module))


def test_each_record_that_is_decoded_anywhere_is_a_target() -> None:
    """They are named where they are decoded; whoever adds one there adds it here."""
    known = {name.removeprefix("record/") for name in BY_NAME if name.startswith("record/")}
    assert {name.lower() for name in _decoded()} <= known | {"_globals"}, "see strategies.RECORDS"


def _decoded() -> set[str]:
    trees = [ast.parse(path.read_text()) for one in PACKAGES for path in (ROOT / one).rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    firsts = [
        call.args[0] for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "decode" and call.args
    ]  # fmt: skip  # one condition
    return {one.id for one in firsts if isinstance(one, ast.Name) and one.id != one.id.lower()}


def test_each_source_has_targets() -> None:
    own = {"simulated"}  # reads nothing: it makes all that it tells
    assert {name for name in sources() if any(t.startswith(f"{name}/") for t in BY_NAME)} == set(
        sources()
    ) - own


def test_each_command_has_a_call() -> None:
    """Whoever adds a command adds how it is called."""

    def words(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        inner = getattr(command, "commands", None)
        for name, one in (inner or {}).items():
            yield from words(one, (*path, name))
        if inner is None:
            yield path

    group: Any = typer.main.get_command(cli.app)
    every = {
        path for name in cli._entries() for path in words(group.get_command(None, name), (name,))
    }
    called_for = {calls._split(call)[0] for call in calls.CALLS}
    assert every - called_for == set()


# ---- a small run ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input_is_read_or_refused(target: Target) -> None:
    """Anything else that it raises ends a process, and with it everybody's records."""
    done = work.work(Share("drawn", target.name, 0, 0, 60))
    assert done.inputs == 60
    assert not done.failures, done.failures[0]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_hostile_records_harm_no_neighbour(line: Any) -> None:
    """One record of one bad host must not cost the others anything."""
    done = work.work(Share("line", line.name, 0, 0, 160))
    assert done.inputs == 160
    assert not done.failures, done.failures[0].problem


@pytest.mark.slow
@pytest.mark.skipif(not GUIDED, reason="atheris has wheels for Linux on x86-64 alone")
def test_coverage_guides_the_search() -> None:
    """Drawn input alone rarely gets two checks deep."""
    done = work.work(Share("guided", "row/marker", 0, 0, 500))
    assert done.inputs == 500
    assert not done.failures, done.failures[0]


# ---- the search itself ------------------------------------------------------------------------


def _fragile(data: bytes) -> None:
    if b"9" in data:
        raise ZeroDivisionError("a fault of ours")


def test_what_escapes_is_told_with_its_number_and_a_small_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search that can find nothing proves nothing."""
    seeds = BY_NAME["record/tick"].seeds
    monkeypatch.setitem(targets.BY_NAME, "fragile", Target("fragile", _fragile, seeds, ()))

    done = work.work(Share("drawn", "fragile", 0, 0, 40))

    assert done.failures
    first = done.failures[0]
    assert (first.content, first.problem) == (b"9", "ZeroDivisionError: a fault of ours")
    again = work.work(Share("drawn", "fragile", 0, first.number, 1))
    assert again.failures == [first]


def test_a_command_that_ends_in_an_error_of_pythons_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As all that reach Kafka did where the file with its password was missing."""
    monkeypatch.setattr(Kafka, "secret", lambda kafka: kafka.password_file.read_text())
    with pytest.raises(FileNotFoundError):
        calls.called(json.dumps({"command": "topics list", "arguments": []}).encode())


def test_a_neighbour_that_is_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what the lines are there for."""

    def forgets(states: Any, arrivals: Any, core: Any) -> Any:
        return judged_really(states, arrivals[1:] if len(arrivals) > 13 else arrivals, core)

    monkeypatch.setattr(agent, "judge", forgets)

    done = work.work(Share("line", "judge", 0, 0, 160))

    assert any("is judged otherwise" in one.problem for one in done.failures)
    assert all(work.unpacked(one.content) for one in done.failures)


def test_each_input_is_worked_on_once() -> None:
    """A million is a million, whatever it is cut into."""
    made = list(shares(10_000, 300, 0))
    assert sum(share.count for share in made if share.kind != "sequence") == 10_000
    assert sum(share.count for share in made if share.kind == "sequence") == 300
    assert {share.name for share in made if share.kind == "drawn"} == set(BY_NAME)
    assert {share.name for share in made if share.kind == "line"} == set(LINE_OF)


def test_the_command_tells_what_came_of_it() -> None:
    call = (sys.executable, "-m", "tests.fuzz", "--count", "60", "--only", "command/time", "--json")
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["failures"], told["sequences"]) == (0, 0)
    assert told["targets"]["drawn command/time"]["inputs"] > 0
    assert "none failed" in done.stderr


def test_a_run_that_is_stopped_tells_what_it_has_done() -> None:
    """Hours that end without their count have told nothing."""
    call = (sys.executable, "-m", "tests.fuzz", "--count", "1000000", "--only", "command/time",
            "--jobs", "1", "--json")  # fmt: skip  # one call
    running = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stderr is not None
    os.read(running.stderr.fileno(), 1)  # it says that it is under way
    running.terminate()
    told, _ = running.communicate(timeout=120)

    body = json.loads(told)
    assert (running.returncode, body["stopped"], body["failures"]) == (130, True, 0)
    assert body["inputs"] < 400_000


def test_a_failure_in_a_long_input_is_made_small() -> None:
    """It went on for ever, and nobody learned of the failure."""

    def fails(data: bytes) -> None:
        if b"!" in data:
            raise RuntimeError

    target = Target("long", fails, lambda: (), ())

    assert work._smaller(target, b"." * 5_000 + b"!" + b"." * 3_000, RuntimeError) == b"!"


def test_a_name_that_nothing_has_is_an_error() -> None:
    """Nothing fed is nothing found."""
    call = (sys.executable, "-m", "tests.fuzz", "--count", "60", "--only", "command-time")
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "command/time" in done.stderr


def test_processes_that_share_the_work_are_out_of_each_others_way() -> None:
    """Forked from one, they wrote to one folder, and what one removed failed the other."""
    shared = [Share("drawn", "command/call", 0, start, 60) for start in (0, 60)]

    rows, stopped = run(shared, 2, Console(quiet=True))

    assert not stopped
    assert [(row.inputs, row.failures) for row in rows.values()] == [(120, [])]
