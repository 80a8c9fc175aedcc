"""Rules for Prometheus speak of what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # has no types

from producers.meters import GatherMeters
from producers.publish import PublishMeters
from streams.meters import ArchiveMeters, Meters

ROOT = Path(__file__).parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
OURS = (Meters(), ArchiveMeters(), GatherMeters(), PublishMeters())


def served() -> dict[str, set[str]]:
    """Every series that some part serves, with its labels."""
    found: dict[str, set[str]] = {"up": set()}
    for meters in OURS:
        for (
            collector
        ) in meters.registry._collector_to_names:  # labels are told nowhere else before a value is
            labels = set(getattr(collector, "_labelnames", ()))
            for name in meters.registry._collector_to_names[collector]:  # as above
                found[name] = labels
    return found


SERVED = served()


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_asks_for_what_is_served(rule: dict[str, Any]) -> None:
    """A rule over a series that nobody serves never fires, and nobody notices."""
    expression = rule["expr"]
    asked = set(re.findall(r"\bplimsoll_\w+|\bup\b", expression))

    assert asked
    assert asked <= SERVED.keys()
    labels = set().union(*(SERVED[name] for name in asked))
    told = {label for text in rule["annotations"].values()
            for label in re.findall(r"\$labels\.(\w+)", text)}  # fmt: skip  # one expression
    grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression)
               for label in by.split(",")}  # fmt: skip  # one expression
    every_target_has = {"job", "instance"}
    assert told <= (grouped or labels | every_target_has)
    assert grouped <= labels | every_target_has | {"le"}


def test_each_rule_says_what_to_do() -> None:
    """It is read at three in the morning."""
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "do"}


def test_a_series_that_nobody_serves_would_be_seen() -> None:
    """Otherwise the names above hold nothing."""
    assert "plimsoll_lag_records" in SERVED
    assert "plimsoll_sample_to_verdict_seconds_bucket" in SERVED
    assert "plimsoll_lag" not in SERVED
