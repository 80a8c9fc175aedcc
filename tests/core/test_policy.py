"""The policy file: read strictly, or not at all."""

from __future__ import annotations

import pytest

from models.errors import UntrustedFile
from models.policy import Mode, Policy, read_policy
from models.records.order import Action
from models.records.verdict import Family, Level
from tests.core.governing import finding


def test_nothing_is_ordered_unless_somebody_has_said_so() -> None:
    """A newcomer's first evening must not cut a production container off."""
    assert read_policy("").mode is Mode.OBSERVE
    assert read_policy("") == Policy()


def test_the_first_rule_that_fits_decides() -> None:
    """So that an exception can stand before what it is excepted from."""
    policy = read_policy("""
        [[rules]]
        levels = ["compromised"]
        lineages = ["registry/shop/*"]
        families = ["process"]
        action = "pause"
        [[rules]]
        levels = ["compromised"]
        action = "stop"
    """)

    assert policy.action_for(finding().verdict) is Action.PAUSE
    assert policy.action_for(finding(lineage="registry/db").verdict) is Action.STOP
    other = finding(families=(Family.EGRESS,)).verdict
    assert policy.action_for(other) is Action.STOP
    assert policy.action_for(finding(Level.SUSPECT).verdict) is Action.ANNOTATE


def test_a_rule_can_name_one_role_of_an_image() -> None:
    """The same image may serve as web server and as worker."""
    text = '[[rules]]\nlevels=["suspect"]\nlineages=["*/cart/web"]\naction="isolate"'

    assert read_policy(text).action_for(finding(Level.SUSPECT).verdict) is Action.ISOLATE
    worker = finding(Level.SUSPECT, role="worker").verdict
    assert read_policy(text).action_for(worker) is Action.ANNOTATE


def test_all_faults_are_told_at_once_and_nothing_is_used() -> None:
    """Mending one line an attempt, at night, is how guards get deleted."""
    text = """
        mode = "enforced"
        ladder = ["isolate", "release"]
        surprise = 1
        [[rules]]
        levels = ["compromized", "quiet"]
        action = "release"
        [guards]
        largest_share = 34
        per_hour = 2.5
        [times]
        ttl_s = true
        [protected]
        hosts = "h1"
    """
    with pytest.raises(UntrustedFile) as told:
        read_policy(text, "policy.toml")

    for place in (
        "mode = 'enforced'", "ladder", "surprise", "rules[0].levels[0]", "rules[0].levels: quiet",
        "rules[0].action", "guards.largest_share = 34", "guards.per_hour = 2.5", "times.ttl_s",
        "protected.hosts", "policy.toml",
    ):  # fmt: skip  # a list to read across
        assert place in str(told.value), place


@pytest.mark.parametrize(
    "text", ["mode = ", "rules = []", "rules = [1]", "guards = 3", "protected = 1", "x = nan"]
)
def test_what_is_no_policy_is_said_to_be_none(text: str) -> None:
    """Never a traceback, never half of a file."""
    with pytest.raises(UntrustedFile):
        read_policy(text)
