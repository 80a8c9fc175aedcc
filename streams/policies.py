"""The policy in force: the reviewed file, and the settings' mode over it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import structlog

from models.errors import ConfigurationError
from models.policy import Mode, Policy, read_policy
from models.records.manifest import LEAD_NS, Rehearsal
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


class Gate:
    """The policy as it may be used: one that enforces has passed its last replay, or the settings
    say why not; else a person approves each act.

    A replay counts for what comes :data:`LEAD_NS` after the log took it in, so that a governor
    that takes over decides about the same records alike.
    """

    def __init__(self, policy: Policy, settings: Settings) -> None:
        self._policy, self._approving = policy, replace(policy, mode=Mode.APPROVE)
        self._file = settings.governor.policy_file
        self._digest = policy_digest(settings)
        self._shown: dict[str, tuple[int, Rehearsal]] = {}
        self._said = ""
        self.needed = policy.mode is Mode.ENFORCE and not settings.governor.without_replay
        """Whether it hangs on replays at all."""

    def hear(self, rehearsal: Rehearsal, logged_ns: int) -> None:
        """A replay was recorded; of this policy, or it does not matter."""
        if rehearsal.policy == self._digest:
            self._shown = {**self._shown, rehearsal.uid: (logged_ns, rehearsal)}

    def at(self, arrived_ns: int) -> Policy:
        """The policy for a record that the log took in then."""
        if not self.needed:
            return self._policy
        known = [one for logged, one in self._shown.values() if logged + LEAD_NS <= arrived_ns]
        last = max(known, key=lambda one: one.at_ns, default=None)
        passed = last is not None and last.passed
        self._say(last)
        return self._policy if passed else self._approving

    def _say(self, last: Rehearsal | None) -> None:
        """Once, whenever it changes."""
        now = "it was never replayed" if last is None else f"{last.uid}: {last.passed}"
        if now == self._said:
            return
        self._said = now
        policy = str(self._file or "the defaults")
        if last is not None and last.passed:
            log.info("enforcing", policy=policy, replay=last.uid, by=last.by)
            return
        log.warning(
            "enforcing needs a replay, approving instead", policy=policy,
            why="its last replay failed" if last is not None else "it was never replayed",
            do="plimsoll replay --policy FILE --record",
        )  # fmt: skip  # one field a line
