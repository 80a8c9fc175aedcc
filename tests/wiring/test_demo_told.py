"""How a story is judged once it has been told: the table must be able to say WRONG."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from models.records.order import Action, Outcome, Status
from models.records.verdict import Finding, Level, Verdict
from streams.demo.notes import Notes
from streams.demo.script import told

BEGAN_NS = 1_790_000_000 * 10**9
SECOND_NS = 10**9
VICTIM, SIBLING = "a" * 64, "b" * 64


@dataclass(frozen=True)
class Story:
    name: str = "exfiltration"
    title: str = "a story"
    twin: bool = False
    lineage: str = "shop/db"
    expected: Level = Level.COMPROMISED
    action: Action | None = Action.ISOLATE
    starts_s: float = 0.0


@dataclass
class Running:
    story: Story = field(default_factory=Story)
    began_ns: int = BEGAN_NS
    victims: list[str] = field(default_factory=lambda: [VICTIM])
    watched_until_ns: int = BEGAN_NS + 120 * SECOND_NS


def finding(level: Level, after_s: float, subject: str = VICTIM) -> Finding:
    at_ns = BEGAN_NS + int(after_s * SECOND_NS)
    verdict = Verdict(
        f"v{after_s}{subject[0]}", "default", "shop/db", "", "shop/db@1", subject, "node-1",
        at_ns - SECOND_NS, at_ns, level, 0.9,
    )  # fmt: skip  # one thought
    return Finding(verdict, Level.QUIET, at_ns)


def outcome(after_s: float, **changed: object) -> Outcome:
    at_ns = BEGAN_NS + int(after_s * SECOND_NS)
    done = Outcome(
        "o1", "order-1", "default", "incident-1", VICTIM, "node-1", Action.ISOLATE, Status.DONE,
        at_ns, verified=True,
    )  # fmt: skip  # one thought
    return replace(done, **changed)  # type: ignore[arg-type]  # fields by name


TWIN = Running(Story("partner", twin=True, expected=Level.QUIET, action=None), victims=[])


def test_a_story_is_right_when_seen_done_and_verified() -> None:
    notes = Notes(findings=[finding(Level.COMPROMISED, 20)], outcomes=[outcome(25)])

    one = told(Running(), notes)

    assert one.right
    assert (one.level, one.action) == ("compromised", "isolate")
    assert (one.seen_after_s, one.verified_after_s) == (20.0, 25.0)


@pytest.mark.parametrize(
    ("findings", "outcomes"),
    [
        ([], [outcome(25)]),
        ([finding(Level.SUSPECT, 20)], [outcome(25)]),
        ([finding(Level.COMPROMISED, 20)], []),
        ([finding(Level.COMPROMISED, 20)], [outcome(25, verified=False)]),
        ([finding(Level.COMPROMISED, 20)], [outcome(25, action=Action.PAUSE)]),
        ([finding(Level.COMPROMISED, 20)], [outcome(25, status=Status.FAILED)]),
        ([finding(Level.COMPROMISED, 20, SIBLING)], []),
        ([finding(Level.COMPROMISED, 500)], [outcome(25)]),
    ],
)
def test_a_story_is_wrong_otherwise(findings: list[Finding], outcomes: list[Outcome]) -> None:
    """Not seen, seen as less, not answered, not verified, answered otherwise, or too late."""
    assert not told(Running(), Notes(findings=findings, outcomes=outcomes)).right


def test_a_twin_is_right_when_it_is_watched_at_most() -> None:
    assert told(TWIN, Notes(findings=[finding(Level.WATCH, 20)])).right


@pytest.mark.parametrize("level", [Level.CORRUPTED, Level.SUSPECT, Level.COMPROMISED])
def test_a_twin_is_wrong_when_any_of_its_lineage_is_suspected(level: Level) -> None:
    assert not told(TWIN, Notes(findings=[finding(level, 20, SIBLING)])).right


def test_a_twin_is_wrong_when_anything_is_done_to_it() -> None:
    notes = Notes(findings=[finding(Level.WATCH, 20)], outcomes=[outcome(25)])

    assert not told(TWIN, notes).right
