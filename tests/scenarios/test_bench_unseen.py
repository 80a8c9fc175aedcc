"""The made-up cases are what they claim to be, and are counted as people are called."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.bench import cloud_monitoring
from infra.bench.made_up import KINDS, Kind, made_up
from infra.bench.unseen import judged, summed, told
from models.records.cases import Answer, Cases

SMALL = [
    replace(kind, images=2, train_rows=200, test_rows=300, faults=kind.faults * 20)
    for kind in KINDS
]  # fmt: skip  # short enough


def arrays(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return dict(found)


@pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.name)
def test_a_case_is_one_that_evaluate_reads_and_a_seed_gives_the_same(kind: Kind) -> None:
    """Figures that nobody can draw again are no figures."""
    content = made_up(kind, 1)

    case, first, again = Cases(io.BytesIO(content)), arrays(content), arrays(made_up(kind, 1))
    assert len(case.images) == 2
    assert all(len(entities) == kind.siblings for entities in case.images.values())
    assert case.rows("member-00", "train").shape == (200, kind.columns)
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[key], again[key]) for key in first if key != "meta"
               and not key.endswith(("train", "test")))  # fmt: skip  # one condition
    np.testing.assert_array_equal(first["member-00/test"], again["member-00/test"])
    other = arrays(made_up(kind, 2))
    assert not np.array_equal(first["member-00/test"], other["member-00/test"], equal_nan=True)


def test_what_is_labelled_differs_from_what_is_not() -> None:
    """Labels beside rows that are like all others would make any detector look blind."""
    kind = replace(SMALL[0], surges=0.0, deploys=0.0, restarts=0.0, bursts=0.0, daily=0.0)
    found = arrays(made_up(kind, 3))

    farthest: dict[int, list[float]] = {0: [], 1: []}
    for name in ("member-00", "member-01"):
        train, test = (np.log(found[f"{name}/{part}"]) for part in ("train", "test"))
        off = np.abs(test - np.median(train, axis=0)) / (train.std(axis=0) + 0.05)
        for label, row in zip(found[f"{name}/label"], off.max(axis=1), strict=True):
            farthest[int(label)].append(float(row))

    assert 10 < len(farthest[1]) < len(farthest[0])
    assert np.median(farthest[1]) > 1.5 * np.median(farthest[0])
    assert np.max(farthest[0]) < 8.0, "nothing happens where nothing is labelled"


def test_tickets_and_budgets_are_counted_by_the_rules() -> None:
    """One false ticket swallows an hour; what is labelled unknown or true is not false."""
    kind = replace(SMALL[0], siblings=1, images=4, faults=0.0, test_rows=1_440)
    content = made_up(kind, 1)
    alarm, never = np.zeros(1_440, bool), np.zeros(1_440, bool)
    alone = {"member-00": Answer(np.zeros(1_440), alarm)}
    answers = alone | {f"member-{at:02}": Answer(np.zeros(1_440), never) for at in (1, 2, 3)}

    alarm[[10, 30, 80, 200, 400]] = True
    four, among_others = (told("servers", content, some, 1.0) for some in (alone, answers))
    alarm[[200, 400]] = False
    two = told("servers", content, alone, 1.0)

    assert (four.false_tickets, four.days, four.worst, four.clean) == (4, 1.0, 4.0, 0)
    assert (four.kept, four.kept_on_the_mean) == (False, False)
    assert (among_others.kept, among_others.kept_on_the_mean) == (False, True)
    assert (two.false_tickets, two.kept) == (2, True)


def test_series_that_others_labelled_become_a_case_for_each_interval(tmp_path: Path) -> None:
    """Its history is the first quarter; no row knows of a later one."""
    for name, step in (("minutes", timedelta(minutes=1)), ("hours", timedelta(hours=1))):
        (tmp_path / name).mkdir()
        rows = [f'"{datetime(2026, 1, 1, tzinfo=UTC) + at * step}",{at % 7},{int(at in (300, 302))}'
                for at in range(400)]  # fmt: skip  # one table
        lines = ["TimeStamp,Value,Label", *rows[:200], rows[200].replace(",4,", ",,"), *rows[201:]]
        (tmp_path / name / "one.csv").write_text("\n".join(lines), encoding="utf-8-sig")

    found = cloud_monitoring.cases(tmp_path)

    assert sorted(found) == ["cloud-monitoring-3600s", "cloud-monitoring-60s"]
    case, held = Cases(io.BytesIO(found["cloud-monitoring-60s"])), arrays(
        found["cloud-monitoring-60s"]
    )  # fmt: skip  # one file
    assert (case.period_s, list(case.images)) == (60.0, ["minutes/one"])
    assert held["minutes/one/train"].shape == (100, 8)
    assert held["minutes/one/test"][0].tolist() == [2, 1, 0, 6, 5, 4, 1, -1]
    assert np.flatnonzero(held["minutes/one/label"]).tolist() == [200, 202]
    assert held["minutes/one/event"][[199, 200, 201, 202]].tolist() == [-1, 0, -1, 0]
    assert judged("minutes", found["cloud-monitoring-60s"], 1.0).events == 1


def test_a_case_runs_through_the_code_that_the_command_runs() -> None:
    made = judged("shop", made_up(SMALL[2], 5), 1.0)

    assert made.members == 4
    assert made.events > 0
    assert summed([made, made])["events"] == 2 * made.events
