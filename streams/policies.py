"""The policy in force: the reviewed file, and the settings' mode over it."""

from __future__ import annotations

from dataclasses import replace

from models.errors import ConfigurationError
from models.policy import Mode, Policy, read_policy
from streams.settings import Settings


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
