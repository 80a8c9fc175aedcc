"""A policy that enforces has passed a replay; else a person approves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.policy import Mode, Policy
from models.records.manifest import Rehearsal
from streams.policies import enforced, policy_digest, policy_of
from streams.settings import Settings, load

NOW_NS = 1_790_000_000 * 10**9


def settings_of(directory: Path, mode: str = "enforce", **governor: str) -> Settings:
    file = directory / "policy.toml"
    file.write_text(f'mode = "{mode}"\n')
    return load(governor={"policy_file": file, **governor})


def rehearsal(policy: str, isolations: int = 0, at_ns: int = NOW_NS) -> Rehearsal:
    return Rehearsal(
        f"r{at_ns}", "default", "", policy, 10.0, NOW_NS, NOW_NS, at_ns, "ann", 100, isolations, 1
    )


def mode(settings: Settings, *shown: Rehearsal) -> Mode:
    return enforced(policy_of(settings), settings, lambda: shown).mode


def test_a_policy_enforces_once_its_last_replay_has_passed(tmp_path: Path) -> None:
    """A rule that isolates half the fleet must be found out before it is used."""
    settings = settings_of(tmp_path)
    good = rehearsal(policy_digest(settings))
    bad = replace(good, isolations=2, at_ns=NOW_NS + 1)

    assert mode(settings) is Mode.APPROVE
    assert mode(settings, good) is Mode.ENFORCE
    assert mode(settings, good, bad) is Mode.APPROVE
    assert mode(settings, bad, replace(good, at_ns=NOW_NS + 2)) is Mode.ENFORCE


def test_one_byte_changed_in_the_file_is_another_policy(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    good = rehearsal(policy_digest(settings))
    (tmp_path / "policy.toml").write_text('mode = "enforce" \n')

    assert mode(settings, good) is Mode.APPROVE


@pytest.mark.parametrize("said", ["observe", "approve"])
def test_a_policy_that_does_not_enforce_asks_for_nothing(tmp_path: Path, said: str) -> None:
    """Not even for the broker: nobody may be needed to observe."""
    settings = settings_of(tmp_path, said)

    found = enforced(policy_of(settings), settings, lambda: pytest.fail("it was asked"))

    assert found.mode is Mode(said)


def test_a_reason_in_the_settings_stands_for_a_replay(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, without_replay="the first week")

    assert mode(settings) is Mode.ENFORCE
    assert policy_digest(load()) == ""
    assert enforced(Policy(), load(), list).mode is Mode.OBSERVE
