"""What leaves with evidence, without the secrets that containers are configured with."""

from __future__ import annotations

import re
from typing import Any, Final

MASK: Final = "***"

_NAMED: Final = re.compile(
    r"(?i)([\w.-]*(?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|credential|private[_-]?key)"
    r"[\w.-]*)(\s*[=:]\s*|\s+)(\S+)"
)
_FLAG: Final = re.compile(r"(?i)^-{1,2}[\w.-]*(?:pass|pwd|secret|token|key|credential)[\w.-]*$")
_USERINFO: Final = re.compile(r"(\w+://[^\s/:@]*):[^\s/@]+@")


def scrubbed(text: str) -> str:
    """A line without what follows a name that promises a secret.

    >>> scrubbed("mysql --password=hunter2 -h db")
    'mysql --password=*** -h db'
    >>> scrubbed("curl https://joe:hunter2@host/x")
    'curl https://joe:***@host/x'
    """
    text = _USERINFO.sub(rf"\1:{MASK}@", text)
    return _NAMED.sub(rf"\1\2{MASK}", text)


def scrubbed_arguments(arguments: list[str]) -> list[str]:
    """A command line, argument by argument; the value may follow its flag.

    >>> scrubbed_arguments(["login", "--token", "abc", "-v"])
    ['login', '--token', '***', '-v']
    """
    found, after_flag = [], False
    for argument in arguments:
        found.append(MASK if after_flag else scrubbed(argument))
        after_flag = bool(_FLAG.match(argument))
    return found


def masked(inspected: dict[str, Any]) -> dict[str, Any]:
    """An inspection with the names of environment variables and none of their values."""
    config = dict(inspected.get("Config") or {})
    config["Env"] = [f"{entry.partition('=')[0]}={MASK}" for entry in config.get("Env") or ()]
    for name in ("Cmd", "Entrypoint"):
        config[name] = scrubbed_arguments(list(config.get(name) or ()))
    config["Labels"] = {
        name: scrubbed(f"{name}={value}").partition("=")[2]
        for name, value in (config.get("Labels") or {}).items()
    }
    if "Healthcheck" in config:
        test = list((config["Healthcheck"] or {}).get("Test") or ())
        config["Healthcheck"] = {"Test": scrubbed_arguments(test)}
    return {
        **inspected,
        "Config": config,
        "Args": scrubbed_arguments(list(inspected.get("Args") or ())),
    }
