"""What the pages say exists, and their examples run."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from models.contract import KEYED, SINGLE_PARTITION
from models.permissions import PARTS, Names
from streams.commands.acls import table as rights
from streams.commands.config import _page as settings_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")
SOURCES = [
    path
    for folder in ("models", "streams", "producers", "infra", "docs", "tests", "notebooks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md", ".sh", ".toml", ".j2"} and path != Path(__file__)
]
FORBIDDEN = re.compile(rf"\.\./shared|{re.escape(str(ROOT))}|\bTODO\b|\bFIXME\b|\bXXX\b")


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, body)
        for page in PAGES
        for kind, body in BLOCK.findall(page.read_text())
        if kind == language
    ]


def plimsoll_calls() -> list[str]:
    """Each `plimsoll …` line of the pages' shell blocks, without comment and pipe."""
    lines = [line for _, body in blocks("bash") for line in body.splitlines()]
    calls = [shlex.split(line, comments=True) for line in lines]
    found = {shlex.join(call) for call in calls if "plimsoll" in call[:1]}
    return sorted(found)


@pytest.mark.parametrize("call", plimsoll_calls())
def test_every_plimsoll_line_in_the_pages_is_one_that_the_command_knows(call: str) -> None:
    """Pages outlive options. With --help added, the words before it are still parsed."""
    words = shlex.split(call)[1:]
    cut = next((at for at, word in enumerate(words) if word in ("|", "&&", ">", ";")), len(words))
    done = subprocess.run(
        (sys.executable, "-m", "streams", *words[:cut], "--help"),
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip  # the call in one line

    assert done.returncode == 0, done.stderr
    for option in (word.partition("=")[0] for word in words[:cut] if word.startswith("--")):
        assert option in done.stdout or option in ("--config", "--log-level")


def test_every_make_line_in_the_pages_has_its_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make ([a-z-]+)", "\n".join(b for _, b in blocks("bash")), re.MULTILINE)

    assert named
    assert set(named) <= targets


def test_the_python_examples_of_the_pages_run() -> None:
    runner = doctest.DocTestRunner()
    for name, body in blocks("python"):
        if ">>>" in body:
            test = doctest.DocTestParser().get_doctest(body, {}, name, name, 0)
            assert not runner.run(test).failed, name
        else:
            exec(compile(body, name, "exec"), {})


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in LINK.findall(page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_page_of_settings_is_the_one_that_the_command_prints() -> None:
    """Every setting is documented, with the default that counts."""
    assert (ROOT / "docs/settings.md").read_text() == "\n".join(settings_page()) + "\n"
    assert all(not line.endswith("|  |") for line in settings_page())


def test_the_table_of_topics_is_the_contract_s() -> None:
    page = (ROOT / "docs/design.md").read_text()
    rows = re.findall(r"^\| `plimsoll\.([a-z-]+)` \|[^|]*\| (\w+) \|", page, re.MULTILINE)

    assert {name for name, partitions in rows if partitions == "1"} == set(SINGLE_PARTITION)
    assert {name for name, partitions in rows if partitions != "1"} == set(KEYED)


def test_the_table_of_rights_is_the_one_that_the_command_prints() -> None:
    page = (ROOT / "docs/security.md").read_text()
    listed = re.search(r"<!-- permissions -->\n(.*)<!-- end of permissions -->", page, re.DOTALL)

    assert listed is not None
    assert listed[1] == "\n".join(rights(Names())) + "\n"
    for part, what in PARTS.items():
        assert f"| {part} | {what} |" in page


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_project_speaks_of_itself_alone(path: Path) -> None:
    """Whoever has only this directory understands all of it."""
    assert not FORBIDDEN.search(path.read_text())
