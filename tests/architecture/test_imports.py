"""Imports point inwards; each command loads no more than it needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "models").rglob("*.py"))
FORBIDDEN_IN_CORE = {"time", "random", "socket", "subprocess", "asyncio", "secrets", "uuid"}
"""Of the standard library: clock, unseeded randomness, network."""


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_numbers_and_nothing_of_the_world(path: Path) -> None:
    """Replay, tests and judges run the same core; it can't if it looks at a clock."""
    allowed = {"models", "numpy", "orjson"} | sys.stdlib_module_names - FORBIDDEN_IN_CORE
    if path.name == "training.py":
        allowed |= {"sklearn"}

    assert imported(path) <= allowed


def test_the_contracts_of_import_linter_hold() -> None:
    """Streams and producers meet in the core alone."""
    done = subprocess.run(
        (Path(sys.executable).with_name("lint-imports"), "--no-cache"),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip  # the call in one line

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("side", ["models", "streams", "producers"])
def test_the_product_never_imports_infra_tests_or_what_notebooks_draw_with(side: str) -> None:
    """The wheel holds none of them, and no command asks for an extra."""
    for path in (ROOT / side).rglob("*.py"):
        assert not imported(path) & {"infra", "tests", "matplotlib", "jupytext"}, path


@pytest.mark.parametrize("name", ["collect", "gather", "respond"])
def test_what_runs_on_every_host_loads_no_heavy_library(name: str) -> None:
    """A collector costs each host its memory; Arrow and DuckDB are for archive and reports."""
    program = (
        "import sys\nfrom streams.cli import main\n"
        f"try: main(['{name}', '--help'])\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'faust', 'sklearn', 'scipy', 'pyarrow', 'duckdb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["worker", "govern"])
def test_judges_and_governors_load_nothing_of_the_archive(name: str) -> None:
    """They hold the state; what reports need is none of their memory's business."""
    module = f"streams.commands.{name}"
    program = (
        f"import sys, {module}, streams.build\n"
        "heavy = {'pyarrow', 'duckdb'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "group",
    [f"plimsoll.{kind}" for kind in ("commands", "settings", "sources", "responders")],
)
def test_every_entry_point_loads(group: str) -> None:
    """A name in `--help` that can't be called is a broken promise."""
    for entry in entry_points(group=group):
        assert entry.load() is not None
