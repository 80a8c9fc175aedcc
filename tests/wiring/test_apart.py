"""Two models over one window: how often each calls somebody, and what it isolates."""

from __future__ import annotations

from dataclasses import replace

from models.policy import Policy
from models.records.verdict import Finding, Level
from streams.replaying import Apart, Decided, apart, ordered
from tests.core.governing import finding

SHOP = "registry/shop/cart"


def decided(*findings: Finding) -> Decided:
    return Decided(findings=list(findings), orders=ordered(findings, Policy()))


def of(lineage: str, *rows: tuple[int, ...]) -> Apart:
    tickets, isolations = rows
    return Apart(f"{lineage}@sha256:1", tickets, isolations)  # type: ignore[arg-type]  # three each


def test_a_ticket_is_the_same_where_it_is_about_the_same_thing() -> None:
    """One model says it two samples later; nobody is called twice for that."""
    one = decided(finding(at_s=100.0))
    other = decided(finding(at_s=110.0), finding(at_s=5_000.0))

    (found,) = apart(one, other)

    assert found == of(SHOP, (1, 0, 1), (1, 0, 0))


def test_a_container_that_gets_worse_calls_nobody_anew() -> None:
    """Alarms within a ticket say how bad it is, not that it is."""
    first = finding(Level.SUSPECT, 100.0)
    worse = replace(finding(Level.COMPROMISED, 130.0), before=Level.SUSPECT)

    assert len(decided(first, worse).tickets()) == 1
    assert len(decided(first, worse).alarms()) == 2


def test_each_image_has_its_row_and_what_is_only_watched_has_none() -> None:
    """A model that isolates what the other calls a word is told apart where it matters."""
    db = "registry/shop/db"
    one = decided(finding(at_s=100.0), finding(Level.WATCH, 100.0, container=2, lineage=db))
    other = decided(finding(at_s=100.0), finding(at_s=100.0, container=2, lineage=db))

    assert apart(one, other) == (of(SHOP, (1, 0, 0), (1, 0, 0)), of(db, (0, 0, 1), (0, 0, 1)))
