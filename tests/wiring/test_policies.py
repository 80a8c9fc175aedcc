"""A policy that enforces has passed a replay; else a person approves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.policy import Mode, Policy
from models.records.manifest import Rehearsal
from streams.policies import Gate, policy_digest, policy_of
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


def gate_of(settings: Settings, *shown: Rehearsal) -> Gate:
    gate = Gate(policy_of(settings), settings)
    for one in shown:
        gate.hear(one, one.at_ns)
    return gate


def mode(settings: Settings, *shown: Rehearsal) -> Mode:
    return gate_of(settings, *shown).at(NOW_NS + 60 * 10**9).mode


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

    gate = gate_of(settings)

    assert not gate.needed
    assert gate.at(NOW_NS).mode is Mode(said)


def test_a_reason_in_the_settings_stands_for_a_replay(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, without_replay="the first week")

    assert mode(settings) is Mode.ENFORCE
    assert policy_digest(load()) == ""
    assert Gate(Policy(), load()).at(NOW_NS).mode is Mode.OBSERVE


def test_a_replay_that_is_recorded_now_counts_from_a_stated_time(tmp_path: Path) -> None:
    """A running governor notices; one that takes over decides about the same records alike."""
    settings = settings_of(tmp_path)
    good = rehearsal(policy_digest(settings))
    gate = gate_of(settings)
    assert gate.at(NOW_NS + 60 * 10**9).mode is Mode.APPROVE

    gate.hear(good, NOW_NS + 50 * 10**9)

    assert gate.at(NOW_NS + 59 * 10**9).mode is Mode.APPROVE
    assert gate.at(NOW_NS + 60 * 10**9).mode is Mode.ENFORCE
    assert gate.at(NOW_NS + 59 * 10**9).mode is Mode.APPROVE


def test_what_changes_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip  # one line less
    """A line for each record would hide it."""
    settings = settings_of(tmp_path)
    gate = gate_of(settings)
    for _ in range(3):
        gate.at(NOW_NS)
    gate.hear(rehearsal(policy_digest(settings)), NOW_NS)
    for _ in range(3):
        gate.at(NOW_NS + 10**10)

    said = capsys.readouterr().out
    assert said.count("approving instead") == said.count("enforcing ") - 1 == 1
