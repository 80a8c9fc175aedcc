"""Usage from the archive: who consumes what, how it grows, what limits reserve in vain.

One look at the samples makes a table of averages by subject and short span of time; all
figures come from that. Consumption is an average rate times the time over which it was seen,
so that neither a sample that was sent twice nor one that is missing changes it. What can't be
known yet is said, with the time from which it can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb

from models.errors import ArchiveUnusable
from streams.archive.layout import days
from streams.archive.views import DAMAGED, opened

STEPS: Final = (timedelta(days=7), timedelta(days=1), timedelta(hours=1))
"""Growth compares the longest of these spans with the one before it that the archive has."""
SPANS_S: Final = (10, 60, 300, 3_600)
"""Averages are over the shortest of these of which there are not too many."""
MOST_AVERAGES: Final = 4_000_000
SHORT: Final = timedelta(minutes=20)
"""Up to this much telemetry, averages are over ten seconds: else over a minute at least."""
LIVE: Final = timedelta(minutes=10)
"""Whoever was seen this shortly before the end counts for limits and replicas."""
A_DAY: Final = timedelta(days=1)
HOSTS: Final = "starts_with(subject, 'host/')"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Growth:
    """The last ``step`` against the one before it, or from when on that can be told."""

    step: timedelta | None
    known_from: datetime
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Usage:
    """All that the report says; times are UTC without a zone."""

    made: datetime
    begins: datetime
    ends: datetime
    span_s: int
    totals: Row
    images: list[Row]
    hosts: list[Row]
    teams: list[Row]
    growth: Growth
    waste: list[Row]
    course: dict[str, list[tuple[int, float]]]
    unknown: list[str]

    @property
    def lasted(self) -> timedelta:
        return self.ends - self.begins


def usage_of(root: Path, team_labels: Sequence[str], lasting: timedelta, made: datetime) -> Usage:
    """What was used up to the newest sample, over at most ``lasting``.

    Raises: ArchiveUnusable when there is no archive, or not a single sample in it.
    """
    newest = _newest(root)
    since = (newest - 2 * max(lasting, STEPS[0]) - A_DAY).date()
    sql = "samples containers gaps undecodable coverage"
    with opened(root, team_labels, sql=sql, since=since) as archive:
        return _Reckoning(archive, team_labels, lasting, newest).usage(made)


def _newest(root: Path) -> datetime:
    """When the newest sample was taken, as long as the log believed it."""
    for day in [found for found, _ in reversed(days(root))] or [date.min]:
        with opened(root, sql="samples", since=day) as archive:
            (newest,) = _one(archive, f"SELECT max(time) FROM samples WHERE {BELIEVED}").values()
            if newest is not None:
                found: datetime = newest
                return found
    raise ArchiveUnusable(
        f"archive {root}: there is no sample in it yet; see that collectors and gather run "
        "(`plimsoll query 'SELECT * FROM ticks'` shows gather's sign of life)"
    )


BELIEVED: Final = "time <= log_time + INTERVAL 1 HOUR"
"""A clock far ahead must not move the report's end."""


class _Reckoning:
    """The figures, from one open archive."""

    def __init__(
        self, archive: duckdb.DuckDBPyConnection, team_labels: Sequence[str],
        lasting: timedelta, ends: datetime,
    ) -> None:  # fmt: skip  # two lines say as much
        self._archive, self._labels, self._ends = archive, team_labels, ends
        # A sample tells of the interval before it: there telemetry begins.
        self._first: datetime = self._asked(FIRST)[0]["first"]
        self._begins = max(self._first, ends - lasting)
        self._step = next((one for one in STEPS if ends - 2 * one >= self._first), None)
        reach = min(self._begins, ends - 2 * self._step if self._step else self._begins)
        self._span_s = self._make_averages(reach)

    def usage(self, made: datetime) -> Usage:
        covered_s = self._covered_s(self._begins, self._ends)
        return Usage(
            made, self._begins, self._ends, self._span_s, self._totals(covered_s),
            self._by("lineage", covered_s), self._hosts(covered_s), self._by("team", covered_s),
            self._growth(), self._waste(), self._course(), list(self._unknown(made)),
        )  # fmt: skip  # as the fields lie

    # ---- averages --------------------------------------------------------------------------

    def _make_averages(self, reach: datetime) -> int:
        """A row a subject and span; what everything else is reckoned from."""
        values = {"reach": reach, "ends": self._ends}
        counted = "SELECT approx_count_distinct(subject) AS n FROM samples WHERE day >= $last"
        subjects = self._asked(counted, {"last": (self._ends - A_DAY).date()})[0]["n"]
        lasted = self._ends - reach
        spans = [one for one in SPANS_S if one > SPANS_S[0] or lasted <= SHORT]
        fits = [one for one in spans if subjects * lasted.total_seconds() / one <= MOST_AVERAGES]
        span_s = (fits or spans[-1:])[0]
        self._archive.execute(AVERAGES.format(span_s=span_s), values)
        self._archive.execute(TEAMED)
        return span_s

    def _covered_s(self, begins: datetime, ends: datetime) -> float:
        """For how long there is any telemetry between these times."""
        found = self._asked(COVERED, {"begins": begins, "ends": ends})[0]["covered_s"]
        return float(found or 0.0) or 1e-9

    # ---- consumption -----------------------------------------------------------------------

    def _totals(self, covered_s: float) -> Row:
        return self._used("'all'", f"NOT {HOSTS}", covered_s)[0] | {
            "hosts": self._asked("SELECT count(DISTINCT host) AS n FROM used WHERE seen_to > $b",
                                 {"b": self._begins})[0]["n"],
            "covered_s": covered_s,
        }  # fmt: skip  # by subject

    def _by(self, column: str, covered_s: float) -> list[Row]:
        return self._used(column, f"NOT {HOSTS}", covered_s)

    def _used(self, by: str, where: str, covered_s: float) -> list[Row]:
        values = {"begins": self._begins, "covered": covered_s}
        return self._asked(USED.format(by=by, where=where), values)

    def _hosts(self, covered_s: float) -> list[Row]:
        """What the containers of each host use, beside what the host itself has."""
        own = {row["host"]: row for row in self._asked(OWN, {"begins": self._begins})}
        rows = self._by("host", covered_s)
        nothing = dict.fromkeys(("name", "host_cores", "has_cores", "host_memory", "has_memory"))
        return [row | nothing | own.get(row["key"], {}) for row in rows]

    # ---- growth ----------------------------------------------------------------------------

    def _growth(self) -> Growth:
        if self._step is None:
            return Growth(None, self._first + 2 * STEPS[-1])
        middle, begins = self._ends - self._step, self._ends - 2 * self._step
        values = {
            "begins": begins, "middle": middle,
            "before_s": self._covered_s(begins, middle),
            "after_s": self._covered_s(middle, self._ends),
        }  # fmt: skip  # by time
        longer = next((one for one in reversed(STEPS) if one > self._step), self._step)
        return Growth(self._step, self._first + 2 * longer, self._asked(GROWTH, values))

    # ---- waste -----------------------------------------------------------------------------

    def _waste(self) -> list[Row]:
        return self._asked(WASTE, {"begins": self._begins, "live": self._ends - LIVE})

    # ---- the course of it ------------------------------------------------------------------

    def _course(self) -> dict[str, list[tuple[int, float]]]:
        """All containers together, span by span; the last span is cut where it isn't whole."""
        rows = self._asked(COURSE, {"begins": self._begins})
        if len(rows) > 3:
            rows = rows[:-1]
        names = ("cpu_cores", "memory_working_set_bytes", "network_transmit_bytes_per_s",
                 "network_receive_bytes_per_s")  # fmt: skip  # as they are drawn
        return {
            name: [(int(row["at_ns"]), float(row[name])) for row in rows if row[name] is not None]
            for name in names
        }

    # ---- what is not known -----------------------------------------------------------------

    def _unknown(self, made: datetime) -> Iterator[str]:
        lasted = self._ends - self._begins
        if self._step is None:
            known = self._first + 2 * STEPS[-1]
            yield (
                "Growth and movers: it takes two hours to compare one with the one before; known "
                f"from {known:%Y-%m-%d %H:%M} UTC."
            )
        if lasted < A_DAY:
            whole = self._first + A_DAY
            yield (
                f"Waste: {told(lasted)} are no basis for lowering a limit; a whole day has been "
                f"seen from {whole:%Y-%m-%d %H:%M} UTC."
            )
        covered_s = self._covered_s(self._begins, self._ends)
        if covered_s < 0.9 * lasted.total_seconds():
            covered = told(timedelta(seconds=covered_s))
            yield f"What happened without telemetry: there is {covered} of it in {told(lasted)}."
        yield from self._unlabelled()
        yield from self._unseen()
        late = made - self._ends
        if late > timedelta(minutes=15):
            yield (
                f"What came after {self._ends:%Y-%m-%d %H:%M} UTC: the archive was {told(late)} "
                "behind when this was made; see that archive, gather and collectors run."
            )

    def _unlabelled(self) -> Iterator[str]:
        sql = f"""
            SELECT count(DISTINCT subject) FILTER (team IS NULL) AS without,
                count(DISTINCT subject) AS all_
            FROM used WHERE NOT {HOSTS} AND seen_to > $begins"""
        found = self._asked(sql, {"begins": self._begins})[0]
        if found["without"]:
            yield (
                f"Teams: {found['without']} of {found['all_']} containers carry none of the labels "
                f"{', '.join(self._labels) or '(none are set)'}; set archive.team_labels, or "
                "label them."
            )

    def _unseen(self) -> Iterator[str]:
        """Holes in what was archived, and what could not be measured."""
        values = {"begins": self._begins}
        holes = self._asked(
            "SELECT sum(next_found - first_missing) AS n FROM gaps WHERE log_time >= $begins",
            values,
        )[0]["n"]
        if holes:
            yield f"{int(holes)} records that Kafka no longer had (table gaps): sums are too low."
        torn = self._asked(
            "SELECT count(*) AS n FROM undecodable WHERE log_time >= $begins", values
        )[0]["n"]
        if torn:
            yield f"{torn} records that could not be decoded (table undecodable)."
        silent = self._asked(
            "SELECT host, any_value(problem) AS problem, count(*) AS n FROM coverage "
            "WHERE time >= $begins GROUP BY host ORDER BY n DESC, host", values
        )  # fmt: skip  # one query
        for row in silent[:5]:
            yield f"Host {row['host']} was not seen all the time ({row['problem']})."
        if len(silent) > 5:
            yield f"{len(silent) - 5} more hosts were not seen all the time (table coverage)."

    def _asked(self, sql: str, values: Row | None = None) -> list[Row]:
        return list(_rows(self._archive, sql, values))


def told(span: timedelta) -> str:
    """A span for people.

    >>> [told(timedelta(seconds=s)) for s in (59, 90, 9_960, 200_000)]
    ['59 seconds', '90 seconds', '2 hours 46 minutes', '2 days 7 hours']
    """
    left = round(span.total_seconds())
    if left < 120:
        return f"{left} second{'s' if left != 1 else ''}"
    parts: list[str] = []
    for seconds, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        count, left = divmod(left, seconds)
        if count and len(parts) < 2:
            parts.append(f"{count} {unit}{'s' if count != 1 else ''}")
        elif parts:
            break
    return " ".join(parts)


def _rows(
    archive: duckdb.DuckDBPyConnection, sql: str, values: Row | None = None
) -> Iterator[Row]:  # fmt: skip  # two lines say as much
    used = {name: value for name, value in (values or {}).items() if f"${name}" in sql}
    try:
        result = archive.execute(sql, used)
        names = [column[0] for column in result.description or ()]
        yield from (dict(zip(names, row, strict=True)) for row in result.fetchall())
    except (duckdb.IOException, duckdb.InvalidInputException) as problem:
        raise ArchiveUnusable(f"archive: {problem} {DAMAGED}") from problem


def _one(archive: duckdb.DuckDBPyConnection, sql: str) -> Row:
    return next(_rows(archive, sql))


WITHIN: Final = f"time > $reach AND time <= $ends AND {BELIEVED}"

FIRST: Final = f"""
SELECT min(time - to_microseconds(CAST(interval_s * 1e6 AS BIGINT))) AS first
FROM samples WHERE {BELIEVED} AND day = (SELECT min(day) FROM samples)
"""

AVERAGES: Final = f"""
CREATE TEMP TABLE averages AS
WITH spans AS (
    -- A subject has one image, role and host for life: to group by it alone is far quicker.
    SELECT time_bucket(INTERVAL '{{span_s}} seconds', time) AS span, scope, subject,
        any_value(lineage) AS lineage, any_value(role) AS role, any_value(host) AS host,
        any_value(name) AS name, max(time) AS seen_to,
        -- From the first sample to the last, and as much again as lies between two.
        CASE WHEN max(time) = min(time) THEN max(interval_s)
            ELSE epoch(max(time) - min(time)) * count(*) / (count(*) - 1) END AS seen_s,
        max(interval_s) AS interval_s,
        avg(cpu_cores) AS cpu, avg(memory_working_set_bytes) AS memory,
        max(memory_working_set_bytes) AS memory_peak,
        avg(network_transmit_bytes_per_s) AS sent, avg(network_receive_bytes_per_s) AS received,
        avg(disk_read_bytes_per_s) AS read, avg(disk_write_bytes_per_s) AS written,
        arg_max(memory_limit_bytes, time) AS memory_limit,
        arg_max(cpu_limit_cores, time) AS cpu_limit
    FROM samples WHERE {WITHIN}
    GROUP BY span, scope, subject
)
-- Whoever was seen before and after a span was there all through it; what was not measured in
-- one is taken to be as in its others.
SELECT * REPLACE (
        coalesce(cpu, avg(cpu) OVER own) AS cpu, coalesce(memory, avg(memory) OVER own) AS memory,
        coalesce(sent, avg(sent) OVER own) AS sent,
        coalesce(received, avg(received) OVER own) AS received,
        coalesce(read, avg(read) OVER own) AS read,
        coalesce(written, avg(written) OVER own) AS written),
    CASE WHEN lag(span) OVER course = span - INTERVAL '{{span_s}} seconds'
            AND lead(span) OVER course = span + INTERVAL '{{span_s}} seconds' THEN {{span_s}}
        ELSE least(seen_s, greatest({{span_s}}, interval_s)) END AS seconds
FROM spans WINDOW own AS (PARTITION BY scope, subject),
    course AS (PARTITION BY scope, subject ORDER BY span)
"""

COVERED: Final = """
SELECT sum(seconds) AS covered_s FROM (
    SELECT span, max(seconds) AS seconds FROM averages
    WHERE seen_to > $begins AND seen_to <= $ends GROUP BY span
)
"""

TEAMED: Final = """
CREATE TEMP VIEW used AS
SELECT averages.*, containers.team, containers.team_label
FROM averages LEFT JOIN containers USING (scope, subject)
"""

USED: Final = """
SELECT {by} AS key, count(DISTINCT subject) AS containers, count(DISTINCT host) AS on_hosts,
    any_value(team_label) AS label,
    sum(cpu * seconds) / 3600 AS core_hours, sum(cpu * seconds) / $covered AS cores,
    sum(memory * seconds) / 3600 AS byte_hours, sum(memory * seconds) / $covered AS memory_bytes,
    sum(sent * seconds) AS sent_bytes, sum(received * seconds) AS received_bytes,
    sum(read * seconds) AS read_bytes, sum(written * seconds) AS written_bytes,
    sum(cpu * seconds) / sum(sum(cpu * seconds)) OVER () AS cpu_share,
    sum(memory * seconds) / sum(sum(memory * seconds)) OVER () AS memory_share
FROM used WHERE {where} AND seen_to > $begins
GROUP BY ALL ORDER BY core_hours DESC NULLS LAST, key
"""

OWN: Final = f"""
SELECT host, any_value(name) AS name, avg(cpu) AS host_cores, max(cpu_limit) AS has_cores,
    avg(memory) AS host_memory, max(memory_limit) AS has_memory
FROM averages WHERE {HOSTS} AND seen_to > $begins GROUP BY host
"""

GROWTH: Final = f"""
WITH parts AS (
    SELECT lineage, seen_to > $middle AS late, cpu * seconds AS cpu, memory * seconds AS memory,
        sent * seconds AS sent, subject
    FROM averages WHERE NOT {HOSTS} AND seen_to > $begins
), sums AS (
    SELECT lineage AS key,
        coalesce(sum(cpu) FILTER (NOT late), 0) / $before_s AS cores_before,
        coalesce(sum(cpu) FILTER (late), 0) / $after_s AS cores_after,
        coalesce(sum(memory) FILTER (NOT late), 0) / $before_s AS memory_before,
        coalesce(sum(memory) FILTER (late), 0) / $after_s AS memory_after,
        coalesce(sum(sent) FILTER (NOT late), 0) / $before_s AS sent_before,
        coalesce(sum(sent) FILTER (late), 0) / $after_s AS sent_after,
        count(DISTINCT subject) FILTER (NOT late) AS containers_before,
        count(DISTINCT subject) FILTER (late) AS containers_after
    FROM parts GROUP BY ALL
)
SELECT *, cores_after - cores_before AS cores_more, memory_after - memory_before AS memory_more,
    sent_after - sent_before AS sent_more
FROM sums ORDER BY abs(cores_more) DESC, key
"""

WASTE: Final = f"""
WITH each AS (
    SELECT lineage, role, subject, arg_max(memory_limit, seen_to) AS memory_limit,
        arg_max(cpu_limit, seen_to) AS cpu_limit, max(memory_peak) AS memory_peak,
        max(cpu) AS cpu_peak
    FROM averages WHERE NOT {HOSTS} AND seen_to > $begins
    GROUP BY ALL HAVING max(seen_to) >= $live
)
SELECT lineage AS key, role, count(*) AS containers,
    count(*) FILTER (memory_limit = 0) AS without_memory_limit,
    count(*) FILTER (cpu_limit = 0) AS without_cpu_limit,
    sum(memory_limit) FILTER (memory_limit > 0) AS memory_reserved,
    sum(memory_peak) FILTER (memory_limit > 0) AS memory_peak,
    sum(greatest(memory_limit - memory_peak, 0)) FILTER (memory_limit > 0) AS memory_idle,
    sum(cpu_limit) FILTER (cpu_limit > 0) AS cores_reserved,
    sum(cpu_peak) FILTER (cpu_limit > 0) AS cores_peak,
    sum(greatest(cpu_limit - cpu_peak, 0)) FILTER (cpu_limit > 0) AS cores_idle,
FROM each GROUP BY ALL ORDER BY memory_idle DESC NULLS LAST, cores_idle DESC NULLS LAST, key, role
"""

COURSE: Final = f"""
SELECT epoch_ns(span) AS at_ns, sum(cpu * seconds) / max(seconds) AS cpu_cores,
    sum(memory * seconds) / max(seconds) AS memory_working_set_bytes,
    sum(sent * seconds) / max(seconds) AS network_transmit_bytes_per_s,
    sum(received * seconds) / max(seconds) AS network_receive_bytes_per_s
FROM averages WHERE NOT {HOSTS} AND seen_to > $begins GROUP BY span ORDER BY span
"""
