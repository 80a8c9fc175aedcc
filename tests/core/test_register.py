"""Which model is used when: a set of words, in whatever order they come."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import MalformedRecord
from models.records.codec import decode, encode
from models.records.manifest import LEAD_NS, Manifest, Rehearsal, Stage, Staging
from models.register import implied, schedule

NOW_NS = 1_790_000_000 * 10**9
SECOND_NS = 10**9
REHEARSAL = Rehearsal("r", "default", "a", "", 10.0, NOW_NS, NOW_NS, NOW_NS, "ann", 9, 1, 1)


def word(model: str, stage: Stage, after_s: int, said_s: int = 0, uid: str = "") -> Staging:
    """A word of second ``said_s`` about second ``after_s`` (and the lead that is due)."""
    from_ns = NOW_NS + LEAD_NS + after_s * SECOND_NS
    return Staging(
        uid or f"{model}-{stage}-{after_s}", "default", model, stage, from_ns,
        NOW_NS + said_s * SECOND_NS, "ann", "a test",
    )  # fmt: skip  # as the fields lie


def at(after_s: float) -> int:
    return NOW_NS + LEAD_NS + int(after_s * SECOND_NS)


WORDS = [
    word("a", Stage.ACTIVE, 10), word("b", Stage.SHADOW, 15), word("b", Stage.ACTIVE, 20),
    word("a", Stage.ACTIVE, 30), word("a", Stage.RETIRED, 40),
]  # fmt: skip  # a story


@given(st.permutations(WORDS))
def test_in_whatever_order_words_come_the_turns_are_the_same(words: list[Staging]) -> None:
    """Or two workers, one of which started late, would judge with different models."""
    turns = schedule([*words, words[0]])

    assert [turns.active_at(at(s)) for s in (9.9, 10, 20, 30, 39.9, 40)] == [
        "", "a", "b", "a", "a", "",
    ]  # fmt: skip  # a row
    assert [turns.shadow_at(at(s)) for s in (14, 15, 20)] == ["", "b", ""]
    assert turns.stages == {"a": Stage.RETIRED, "b": Stage.RETIRED}


def test_of_two_activations_at_once_everyone_takes_the_same() -> None:
    """Two people, two terminals, one second."""
    two = [word("a", Stage.ACTIVE, 10, uid="x"), word("b", Stage.ACTIVE, 10, uid="y")]
    later = [word("a", Stage.ACTIVE, 10, said_s=1, uid="x"), word("b", Stage.ACTIVE, 10, uid="y")]

    assert {schedule(p).active_at(at(10)) for p in itertools.permutations(two)} == {"b"}
    assert {schedule(p).active_at(at(10)) for p in itertools.permutations(later)} == {"a"}


def test_a_model_that_cannot_be_used_is_passed_over() -> None:
    """What was active before goes on; a forged successor must not leave nothing."""
    turns = schedule(WORDS, {"a"})

    assert turns.active_at(at(25)) == "a"
    assert turns.shadow_at(at(16)) == ""


def test_rolling_back_names_the_model_before() -> None:
    turns = schedule(WORDS)

    assert turns.before(at(10)) == ""
    assert turns.before(at(20)) == "a"
    assert turns.before(at(30)) == "b"
    assert turns.before(at(40)) == "a"


def test_a_stage_begins_later_than_it_is_said() -> None:
    """A worker that has judged that time already would differ from one that has not."""
    with pytest.raises(MalformedRecord, match="workers would disagree"):
        word("a", Stage.SHADOW, 0, said_s=1)


def test_what_becomes_active_has_passed_a_rehearsal_or_has_a_reason() -> None:
    """The gate holds in the record itself: a worker refuses what went around the command."""
    bare = replace(WORDS[0], because="", rehearsal=REHEARSAL)

    assert decode(Staging, encode(bare)) == bare
    for shown in (
        None, replace(REHEARSAL, model="b"), replace(REHEARSAL, isolations=2),
        replace(REHEARSAL, samples=0),
    ):  # fmt: skip  # a list
        with pytest.raises(MalformedRecord, match="rehearsal"):
            replace(bare, rehearsal=shown)


def test_a_manifest_announced_as_active_is_such_a_word() -> None:
    """What an earlier release wrote goes on counting."""
    manifest = Manifest(
        "a", "default", Stage.ACTIVE, "isolation-forest", ("f",), "", 0, NOW_NS, at(10)
    )
    said = implied(manifest)

    assert said is not None
    assert schedule([said]).active_at(at(10)) == "a"
    assert implied(replace(manifest, stage=Stage.CANDIDATE)) is None
