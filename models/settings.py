"""What the settings of both sides share: how Kafka is reached, and how faults are told."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from models.errors import ConfigurationError

SECRET_NAMES: Final = frozenset({"password"})
"""Settings whose value is never shown: not by ``config show``, not in an error."""


ANONYMOUS: Final = "User:ANONYMOUS"
"""Whom a broker takes a client for that says nothing of itself."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """How to reach Kafka. The words are librdkafka's, dots replaced by underscores."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }

    bootstrap: str = "127.0.0.1:9092"
    """Brokers to ask first, host:port, separated by commas."""
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """Plain by default, because that is what a broker on this machine speaks."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Counts with a sasl protocol only; the strongest that Kafka offers by default."""
    username: str = ""
    """Who we are, with a sasl protocol."""
    password: str = field(default="", repr=False)
    """The password of username; better given as password_file."""
    password_file: Path | None = None
    """A file that holds the password, as Docker and Kubernetes mount secrets."""
    ca_file: Path | None = None
    """Whom to trust (PEM), with an ssl protocol; else the system's certificates."""
    certificate_file: Path | None = None
    """Our own certificate (PEM), where the broker asks for one."""
    key_file: Path | None = None
    """The private key (PEM) of certificate_file."""

    def __post_init__(self) -> None:
        faults = tuple(self._faults())
        if faults:
            raise ValueError("; ".join(faults))

    def _faults(self) -> Iterable[str]:
        if not all(_is_address(one) for one in self.bootstrap.split(",")):
            yield f"bootstrap is {self.bootstrap!r}, expected host:port, separated by commas"
        if self.uses_sasl and not self.username:
            yield f"{self.security_protocol} needs a username"
        if self.uses_sasl and not (self.password or self.password_file):
            yield f"{self.security_protocol} needs a password or a password_file"
        if self.password and self.password_file:
            yield "password and password_file are both given: keep one"
        if bool(self.certificate_file) != bool(self.key_file):
            yield "certificate_file and key_file go together: give both or neither"

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("sasl")

    @property
    def uses_ssl(self) -> bool:
        return self.security_protocol.endswith("ssl")

    @property
    def principal(self) -> str:
        """Whom the broker takes us for, in the words of its access lists.

        >>> Kafka().principal
        'User:ANONYMOUS'
        """
        certificate = str(self.certificate_file or "") if self.uses_ssl else ""
        return _principal(self.username if self.uses_sasl else "", certificate)

    def secret(self) -> str:
        """The password, wherever it lies.

        Raises: ConfigurationError when its file can't be read.
        """
        if self.password_file is None:
            return self.password
        try:
            return self.password_file.read_text().strip()
        except (OSError, ValueError) as problem:  # missing, not ours to read, or no text
            why = getattr(problem, "strerror", None) or "not text"
            raise ConfigurationError(
                f"the password of {self.username!r} can't be read from {self.password_file} "
                f"({why}): correct kafka.password_file, or its owner and mode"
            ) from problem

    def librdkafka(self) -> dict[str, str]:
        """The same for confluent-kafka's clients.

        >>> Kafka(bootstrap="kafka:9092").librdkafka()
        {'bootstrap.servers': 'kafka:9092', 'security.protocol': 'plaintext'}
        """
        config = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security_protocol,
        }
        if self.uses_sasl:
            config |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.username,
                "sasl.password": self.secret(),
            }
        if self.uses_ssl:
            files = {
                "ssl.ca.location": self.ca_file,
                "ssl.certificate.location": self.certificate_file,
                "ssl.key.location": self.key_file,
            }
            config |= {name: str(path) for name, path in files.items() if path}
        return config


def principal_of(config: Mapping[str, Any]) -> str:
    """The same of what :meth:`Kafka.librdkafka` gave.

    >>> principal_of(Kafka().librdkafka())
    'User:ANONYMOUS'
    """
    return _principal(config.get("sasl.username", ""), config.get("ssl.certificate.location", ""))


def _principal(username: str, certificate: str) -> str:
    if username:
        return f"User:{username}"
    return f"the subject of {certificate}" if certificate else ANONYMOUS


def _is_address(text: str) -> bool:
    host, colon, port = text.strip().rpartition(":")
    return bool(host and colon and port.isdecimal() and 0 < int(port) < 65_536)


def read_file(path: str | None, tables: Iterable[str]) -> dict[str, Any]:
    """What a settings file says; ``tables`` are all names that it may hold at its top.

    Raises: ConfigurationError when it can't be read, is no TOML or holds another name.
    """
    if not path:
        return {}
    try:
        said = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as problem:
        raise ConfigurationError(
            f"settings file {path}: {problem}; name another with --config or PLIMSOLL_CONFIG"
        ) from problem
    known = sorted(tables)
    strange = sorted(said.keys() - set(known))
    if strange:
        raise ConfigurationError(
            f"settings file {path}: there is no {', '.join(strange)}; known are {', '.join(known)}"
        )
    return said


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given: None means not given, table by table.

    >>> given({"scope": None, "gather": {"tick_s": 2.0, "group": None}})
    {'gather': {'tick_s': 2.0}}
    """
    kept = {
        name: given(value) if isinstance(value, Mapping) else value for name, value in flags.items()
    }
    return {name: value for name, value in kept.items() if value is not None}


def tell_faults(faults: Iterable[Mapping[str, Any]]) -> str:
    """All faults in one message: the setting's name, its value, what is allowed.

    ``faults`` are as pydantic lists them: ``loc``, ``msg``, ``type`` and ``input``.

    >>> print(tell_faults([
    ...     {"loc": ("gather", "tick_s"), "msg": "Input should be greater than 0",
    ...      "type": "greater_than", "input": -1}]))
    1 setting cannot be used:
      gather.tick_s = -1: should be greater than 0 (PLIMSOLL_GATHER__TICK_S)
    """
    lines = [_told(fault) for fault in faults if fault["type"] != "default_factory_not_called"]
    noun = "setting" if len(lines) == 1 else "settings"
    return "\n  ".join((f"{len(lines)} {noun} cannot be used:", *lines))


def _told(fault: Mapping[str, Any]) -> str:
    place = tuple(str(part) for part in fault["loc"])
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        message = "there is no such setting: see docs/settings.md"
    found = fault.get("input")
    shown = isinstance(found, str | int | float | bool) and not SECRET_NAMES & set(place)
    value = f" = {found!r}" if shown else ""
    return f"{'.'.join(place)}{value}: {message} ({variable(place)})"


def variable(place: Iterable[str]) -> str:
    """The environment variable of a setting.

    >>> variable(("kafka", "bootstrap"))
    'PLIMSOLL_KAFKA__BOOTSTRAP'
    """
    return "PLIMSOLL_" + "__".join(place).upper()
