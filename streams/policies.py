"""The policy in force: the reviewed file, and the settings' mode over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from models.errors import ConfigurationError
from models.policy import Mode, Policy, read_policy
from models.records.manifest import Rehearsal
from streams.settings import Settings

log = structlog.get_logger(__name__)


def policy_of(settings: Settings) -> Policy:
    """The reviewed file, or the defaults; the settings' mode wins over the file's.

    Raises: ConfigurationError when it can't be read, UntrustedFile when it does not hold.
    """
    path, policy = settings.governor.policy_file, Policy()
    if path is not None:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigurationError(
                f"policy file {path}: {problem}; name another with --policy"
            ) from problem
        policy = read_policy(text, str(path))
    mode = settings.governor.mode
    return policy if mode is None else replace(policy, mode=Mode(mode))


def policy_digest(settings: Settings) -> str:
    """What a rehearsal names a policy by: its file's SHA-256; empty for the defaults."""
    path = settings.governor.policy_file
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None else ""


def enforced(
    policy: Policy, settings: Settings, rehearsals: Callable[[], Iterable[Rehearsal]]
) -> Policy:
    """The policy as it may be used: one that enforces has passed its last replay, or the
    settings say why not; else a person approves each act.
    """
    if policy.mode is not Mode.ENFORCE or settings.governor.without_replay:
        return policy
    digest = policy_digest(settings)
    shown = [one for one in rehearsals() if one.policy == digest]
    last = max(shown, key=lambda one: one.at_ns, default=None)
    if last is not None and last.passed:
        return policy
    log.warning(
        "enforcing needs a replay, approving instead",
        policy=str(settings.governor.policy_file or "the defaults"),
        why="its last replay failed" if last is not None else "it was never replayed",
        do="plimsoll replay --policy FILE --record, then restart the governor",
    )  # fmt: skip  # one field a line
    return replace(policy, mode=Mode.APPROVE)
