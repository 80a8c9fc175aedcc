"""SQL over the archive: what can be asked, and what can't be done."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.wiring.archived import archive_of, batch, entry, member, silent
from tests.wiring.test_cli import plimsoll

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples of two containers over two days, one of which has a label."""
    one, two = member(1), member(2, memory_limit_bytes=10**9)
    nan = float("nan")
    return archive_of(
        tmp_path_factory.mktemp("archive"),
        [
            entry(one, "shop/cart", team="storefront"),
            entry(two, "shop/db"),
            entry(one, "shop/cart", at_s=5, owner="ann", team="payments"),
            batch("shop/cart", [one], 10, cpu_cores=[0.25], processes=[3]),
            batch("shop/db", [two], 10, cpu_cores=[nan], processes=[7]),
            batch("shop/db", [two], 86_400, cpu_cores=[0.5], processes=[9]),
            silent("h1", 20),
            b"{torn",
        ],
    )


def ask(root: Path, sql: str) -> list[dict[str, object]]:
    done = plimsoll("query", "--dir", str(root), "--json", sql)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_the_tables_answer_in_sql(root: Path) -> None:
    """What was not measured counts in no average."""
    rows = ask(
        root, "SELECT lineage, count(*) AS n, avg(cpu_cores) AS cpu, max(memory_limit_bytes) AS m "
        "FROM samples GROUP BY ALL ORDER BY lineage",
    )  # fmt: skip  # one query

    assert rows == [
        {"lineage": "shop/cart", "n": 1, "cpu": 0.25, "m": 0},
        {"lineage": "shop/db", "n": 2, "cpu": 0.5, "m": 10**9},
    ]


def test_times_compare_with_now_and_days_are_a_column(root: Path) -> None:
    """As whoever writes SQL expects; in UTC, whatever the machine's zone."""
    sql = (
        "SELECT count(*) AS n, max(time) AS t, "
        "any_value(now()::TIMESTAMP = now() AT TIME ZONE 'UTC') AS utc FROM samples "
        "WHERE time < now() AND day = '2026-09-21'"
    )
    done = plimsoll("query", "--dir", str(root), "--json", sql, TZ="Pacific/Auckland")

    assert json.loads(done.stdout) == [{"n": 2, "t": "2026-09-21T14:13:30", "utc": True}]


def test_containers_are_as_their_newest_description_says(root: Path) -> None:
    rows = ask(root, "SELECT name, team, team_label FROM containers ORDER BY name")

    assert rows == [
        {"name": "name-1", "team": "payments", "team_label": "team"},
        {"name": "name-2", "team": None, "team_label": None},
    ]


def test_observations_stand_together_in_a_few_words(root: Path) -> None:
    assert ask(root, "SELECT host, kind, what FROM observations") == [
        {"host": "h1", "kind": "coverage", "what": "silent"}
    ]


def test_tables_that_have_no_rows_yet_are_there_all_the_same(root: Path) -> None:
    """Else the first query of a quiet fleet would be an error."""
    assert ask(root, "SELECT count(*) AS n, max(time) AS t FROM alerts") == [{"n": 0, "t": None}]
    names = {row["name"] for row in ask(root, "SHOW TABLES")}
    assert names >= {"samples", "alerts", "gaps", "containers", "observations"}


def test_what_could_not_be_decoded_can_be_asked_for(root: Path) -> None:
    (row,) = ask(root, "SELECT topic, fault, value FROM undecodable")

    assert row == {"topic": "p.telemetry", "fault": "undecodable", "value": "{torn"}


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM samples",
        "COPY samples TO '{root}/stolen.csv'",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; DROP VIEW samples",
        "SET enable_external_access = true",
        "ATTACH '{root}/x.db'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/passwd'",
        "",
    ],
)
def test_nothing_is_written_and_nothing_else_is_read(root: Path, sql: str) -> None:
    """Whoever may ask the archive may not therefore read this machine's files."""
    before = sorted(root.rglob("*"))

    done = plimsoll("query", "--dir", str(root), sql.format(root=root))

    assert done.returncode == 2
    assert done.stderr.startswith("plimsoll: query: ")
    assert sorted(root.rglob("*")) == before


def test_a_mistake_is_told_with_what_helps(root: Path) -> None:
    done = plimsoll("query", "--dir", str(root), "SELECT cpu FROM samples")

    assert done.returncode == 2
    assert "cpu_cores" in done.stderr
    assert "DESCRIBE samples" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_an_archive_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = plimsoll("query", "--dir", str(tmp_path / "none"), "SELECT 1 FROM samples")

    assert done.returncode == 1
    assert "plimsoll archive" in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_damaged_file_is_named(tmp_path: Path, kept: float) -> None:
    """The person who mends it needs to know which."""
    archive_of(
        tmp_path, [batch("shop/cart", [member(1)], at, cpu_cores=[1.0]) for at in (0, 90_000)]
    )
    path = max(tmp_path.glob("day=*/lot-*/samples.parquet"))
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[4 : int(len(content) * kept)] = b"\xff" * (int(len(content) * kept) - 4)
    path.write_bytes(damaged)

    done = plimsoll("query", "--dir", str(tmp_path), "SELECT * FROM samples")

    assert done.returncode == 1
    assert f"{path.parent.name}/samples.parquet" in done.stderr
    assert "Traceback" not in done.stderr


def test_csv_and_tables_for_those_who_want_them(root: Path) -> None:
    sql = (
        "SELECT name AS a, processes AS a, labels "
        "FROM samples JOIN containers USING (name) ORDER BY 2"
    )
    said = plimsoll("query", "--dir", str(root), "--csv", sql).stdout
    rows = list(csv.reader(io.StringIO(said)))

    assert rows[0] == ["a", "a_2", "labels"]
    assert rows[1] == ["name-1", "3.0", '{"owner":"ann","team":"payments"}']
    assert "name-1" in plimsoll("query", "--dir", str(root), sql).stdout


def test_releases_that_know_more_columns_lie_in_one_archive(root: Path, tmp_path: Path) -> None:
    """Version N reads what N-1 and N+1 wrote."""
    copy = tmp_path / "archive"
    archive_of(copy, [batch("a", [member(1)], at_s, cpu_cores=[1.0]) for at_s in (0, 86_400)])
    newer = max(copy.glob("day=*/lot-*/samples.parquet"))
    table = pq.ParquetFile(newer).read()
    pq.write_table(table.append_column("cpu_pressure", [[0.7]]), newer)

    rows = ask(copy, "SELECT cpu_cores, cpu_pressure FROM samples ORDER BY time")

    assert rows == [
        {"cpu_cores": 1.0, "cpu_pressure": None}, {"cpu_cores": 1.0, "cpu_pressure": 0.7},
    ]  # fmt: skip  # one list


def test_the_notebook_of_the_page_works(root: Path) -> None:
    """Three lines that a reader copies."""
    page = (ROOT / "docs/archive.md").read_text()
    (snippet,) = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = snippet.replace("/var/lib/plimsoll/archive", str(root)).splitlines()
    assert len([line for line in lines if line]) == 3
    names: dict[str, object] = {}

    exec("\n".join(lines), names)

    shown = next(value for value in names.values() if isinstance(value, duckdb.DuckDBPyRelation))
    assert {row[0] for row in shown.fetchall()} == {"shop/cart", "shop/db"}


def test_a_query_may_come_from_standard_input(root: Path) -> None:
    """Long ones lie in files."""
    done = subprocess.run(
        (sys.executable, "-m", "streams", "query", "--dir", str(root), "--json", "-"),
        input="SELECT count(*) AS n FROM samples", capture_output=True, text=True, check=True,
        env=os.environ | {"COLUMNS": "120"},
    )  # fmt: skip  # the call in one line

    assert json.loads(done.stdout) == [{"n": 3}]
