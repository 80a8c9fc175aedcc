"""The archive as DuckDB sees it: one view a table, nothing that could write.

All times are UTC without a zone, so the session's zone is UTC too: ``time > now() - INTERVAL 1
HOUR`` then means what it says, wherever it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import ArchiveUnusable, ConfigurationError
from streams.archive.layout import days
from streams.archive.tables import FACTS, LOG, SCHEMAS

_WHAT: Final = {
    "connections": "direction || ' ' || peer || ':' || port || '/' || protocol",
    "interfaces": "interface",
    "listens": "port || '/' || protocol",
    "programs": "executable",
    "file_changes": "change || ' ' || path",
    "boots": "array_to_string(list_concat(entrypoint, command), ' ')",
    "execs": "command",
    "lifecycles": "event",
    "coverage": "problem",
}
"""An observation in a few words."""
DERIVED: Final = {"observations": set(FACTS.values()), "containers": {"inventory"}}
"""Views of other tables."""
DAMAGED: Final = (
    "If that file is damaged, move its lot's folder out of the archive. Nothing else depends on "
    "it; if it is the newest, its records are read from Kafka again"
)
_WHO: Final = "time, scope, lineage, role, image, subject, host, name"
_READS: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def opened(
    root: Path, team_labels: Sequence[str] = (), *, sql: str = "", since: date = date.min
) -> duckdb.DuckDBPyConnection:
    """A connection of its own to an archive that can read it and do nothing else.

    It knows the tables that ``sql`` names, all of them when it names none, and of each the
    days from ``since`` on. Raises: ArchiveUnusable when there is no archive.
    """
    if not days(root):
        raise ArchiveUnusable(
            f"archive {root}: nothing is there yet. Start `plimsoll archive` (`plimsoll up` runs "
            "it); its first files come ten seconds later. Or name the folder with archive_dir"
        )
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    there, known = _globs(root, since), named(sql)
    for table in known:
        _view(connection, table, there.get(table, []))
    for made_of, view in _derived(team_labels):
        if made_of <= known:
            connection.execute(view)
    connection.execute(f"SET allowed_directories = [{_quoted(str(root.resolve()))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def named(sql: str) -> set[str]:
    """The tables whose names stand in a query, with those that these are made of.

    A view costs a look at many files, so that only what is asked for is made.

    >>> sorted(named("SELECT * FROM Containers JOIN samples USING (subject)"))
    ['inventory', 'samples']
    """
    words = set(re.findall(r"\w+", sql.lower()))
    found = words & SCHEMAS.keys()
    for view, made_of in DERIVED.items():
        found |= made_of if view in words else set()
    return found or set(SCHEMAS)


def asked(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection:
    """The result of one SELECT.

    Raises: ConfigurationError when it is none, or says what DuckDB does not understand;
    ArchiveUnusable when a file can't be read.
    """
    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1 or statements[0].type not in _READS:
            raise ConfigurationError(
                "query: give one SELECT (or DESCRIBE, SUMMARIZE, SHOW TABLES, EXPLAIN); the "
                "archive is read, never written. Keep a result by --csv > result.csv"
            )
        return connection.execute(sql)
    except (duckdb.IOException, duckdb.InvalidInputException) as problem:
        raise ArchiveUnusable(f"archive: {_first(problem)} {DAMAGED}") from problem
    except duckdb.Error as problem:
        raise ConfigurationError(
            f"query: {_first(problem)} (`SHOW TABLES` lists the tables, `DESCRIBE samples` the "
            "columns of one; docs/archive.md explains them)"
        ) from problem


def _globs(root: Path, since: date) -> dict[str, list[Path]]:
    """For each table the pattern of its files of each day that has any, in order."""
    found: dict[str, list[Path]] = {}
    for day, folder in days(root.resolve()):
        if day >= since:
            names = {path.name for lot in folder.glob("lot-*") for path in lot.glob("*.parquet")}
            for name in names:
                found.setdefault(name.removesuffix(".parquet"), []).append(folder / "lot-*" / name)
    return found


def _view(connection: duckdb.DuckDBPyConnection, table: str, globs: Sequence[Path]) -> None:
    if not globs:
        connection.register("none_of_it", SCHEMAS[table].empty_table())
        columns = f"* {_microseconds(SCHEMAS[table])}, NULL::DATE AS day"
        connection.execute(f"CREATE TABLE {table} AS SELECT {columns} FROM none_of_it")
        connection.unregister("none_of_it")
        return
    schemas = [_schema(glob) for glob in globs]
    alike = len({tuple(schema.names) for schema in schemas}) == 1
    patterns = ", ".join(_quoted(str(glob)) for glob in globs)
    # To unite columns by name, DuckDB reads every file first: only where releases differ.
    connection.execute(
        f"CREATE VIEW {table} AS SELECT * {_microseconds(schemas[0])} "
        f"FROM read_parquet([{patterns}], hive_partitioning = true, "
        f"hive_types = {{'day': DATE}}, union_by_name = {not alike})"
    )


def _schema(glob: Path) -> pa.Schema:
    """That of the first file of a day. Raises: ArchiveUnusable when it can't be read."""
    path = min(glob.parent.parent.glob(f"lot-*/{glob.name}"))
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as problem:
        raise ArchiveUnusable(f"archive {path}: {problem} {DAMAGED}") from problem


def _microseconds(schema: pa.Schema) -> str:
    """Times as SQL compares and subtracts them; the files keep their nanoseconds."""
    times = [field.name for field in schema if field.type == pa.timestamp("ns")]
    replaced = ", ".join(f"{name}::TIMESTAMP AS {name}" for name in times)
    return f"REPLACE ({replaced})" if times else ""


def _derived(team_labels: Sequence[str]) -> list[tuple[set[str], str]]:
    """Views of other tables, and which tables these are."""
    return [
        (DERIVED["observations"], _observations()),
        (DERIVED["containers"], _containers(team_labels)),
    ]


def _observations() -> str:
    place = ", ".join(field.name for field in LOG)
    parts = [
        f"SELECT {place}, {_WHO}, '{table}' AS kind, {_WHAT[table]} AS what, day FROM {table}"
        for table in FACTS.values()
    ]
    return f"CREATE VIEW observations AS {' UNION ALL '.join(parts)}"


def _containers(team_labels: Sequence[str]) -> str:
    """The newest description of each container and host, and whose it is."""
    teams = [f"labels[{_quoted(label)}]" for label in team_labels]
    names = [
        f"WHEN labels[{_quoted(label)}] IS NOT NULL THEN {_quoted(label)}" for label in team_labels
    ]
    team = f"coalesce({', '.join(teams)})" if teams else "NULL::VARCHAR"
    label = f"CASE {' '.join(names)} END" if names else "NULL::VARCHAR"
    return (
        f"CREATE VIEW containers AS SELECT *, {team} AS team, {label} AS team_label "
        "FROM inventory WHERE NOT deleted QUALIFY row_number() OVER "
        "(PARTITION BY scope, subject ORDER BY log_time DESC, log_offset DESC) = 1"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _first(problem: Exception) -> str:
    """What DuckDB says, without the lines that draw arrows."""
    said = [line.strip() for line in str(problem).splitlines() if line.strip()]
    kept = [line for line in said if not re.match(r"LINE \d+:|\^", line)]
    return " ".join(kept[:3])[:500]


def given(connection: duckdb.DuckDBPyConnection, **values: str | int) -> None:
    """Let queries name values as ``getvariable('NAME')``: what others chose, a lineage's name
    among it, never becomes SQL.

    >>> connection = duckdb.connect()
    >>> given(connection, lineage="shop/o'clock", since=7)
    >>> connection.execute("SELECT getvariable('lineage'), getvariable('since')").fetchone()
    ("shop/o'clock", 7)
    """
    for name, value in values.items():
        connection.execute(f"SET VARIABLE {name} = ?", [value])


def rows(result: duckdb.DuckDBPyConnection, at_once: int = 2_000) -> Iterator[tuple[Any, ...]]:
    """A result's rows, as they come."""
    while found := result.fetchmany(at_once):
        yield from found
