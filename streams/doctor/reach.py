"""Can Kafka be reached, does it prove who it is, and does it believe us?"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from models.errors import ConfigurationError
from models.settings import Kafka
from streams.build import ssl_context_of
from streams.doctor.base import Case, Check, Found

_WAIT_S: Final = 5.0
_AUTHENTICATION: Final = KafkaError._AUTHENTICATION  # noqa: SLF001  # its public name
Address = tuple[str, int]


def _address(case: Case) -> Iterator[Found]:
    for host, port in addresses(case.kafka.bootstrap):
        try:
            socket.create_connection((host, port), _WAIT_S).close()
        except socket.gaierror as problem:
            yield Found(
                f"{host}:{port}", f"no such host ({problem.strerror})",
                "correct kafka.bootstrap, or the name service of this machine",
            )  # fmt: skip  # what, why, what to do
        except OSError as problem:
            why = problem.strerror or "no answer"
            yield Found(
                f"{host}:{port}", f"nobody takes a connection ({why})",
                "correct kafka.bootstrap; see that the broker runs and no firewall stands between",
            )  # fmt: skip  # what, why, what to do


def _tls(case: Case) -> Iterator[Found]:
    kafka = case.kafka
    for address in addresses(kafka.bootstrap):
        about = f"{address[0]}:{address[1]}"
        if not kafka.uses_ssl:
            if _speaks_tls(address):
                wanted = "sasl_ssl" if kafka.uses_sasl else "ssl or sasl_ssl"
                yield Found(about, "it speaks TLS, and we don't",
                            f"set kafka.security_protocol to {wanted}")  # fmt: skip  # two lines
            continue
        try:
            _shake_hands(address, ssl_context_of(kafka))
        except ConfigurationError as problem:
            yield Found(
                "files", str(problem), "correct kafka.ca_file, certificate_file and key_file"
            )
            return
        except ssl.SSLCertVerificationError as problem:
            yield Found(about, f"its certificate does not hold: {problem.verify_message}",
                        _todo(problem, kafka))  # fmt: skip  # two lines
        except ssl.SSLError as problem:
            yield Found(
                about, f"no TLS with it: {problem.reason or problem}", _todo(problem, kafka)
            )
        except OSError as problem:
            yield Found(about, f"it hung up during TLS ({problem.strerror or problem})",
                        "see that this port is one for TLS: kafka.bootstrap, "
                        "kafka.security_protocol")  # fmt: skip  # three lines


def _todo(problem: ssl.SSLError, kafka: Kafka) -> str:
    if not isinstance(problem, ssl.SSLCertVerificationError):
        if "CERTIFICATE" in (problem.reason or ""):
            return "it asks for a certificate of ours: kafka.certificate_file and key_file"
        return "see that this port is one for TLS: kafka.bootstrap, kafka.security_protocol"
    if "mismatch" in problem.verify_message or "match" in problem.verify_message:
        return "name the broker in kafka.bootstrap as its certificate does"
    if "expired" in problem.verify_message or "not yet" in problem.verify_message:
        return "renew the broker's certificate; see that this machine's clock is right"
    trusted = kafka.ca_file or "the system's certificates"
    return f"set kafka.ca_file to who signed the broker's certificate (now: {trusted})"


def _shake_hands(address: Address, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection(address, _WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as secure,
    ):
        # A broker that wants a certificate of ours says so only after its own handshake.
        secure.settimeout(0.3)
        try:
            secure.read(1)
        except TimeoutError:
            return


def _speaks_tls(address: Address) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: only whether it answers in TLS counts
    try:
        with (
            socket.create_connection(address, _WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname=address[0]),
        ):
            return True
    except OSError:
        return False


def _login(case: Case) -> Iterator[Found]:
    heard: list[KafkaError] = []
    kafka = case.kafka
    try:
        told: dict[str, Any] = {"log_level": 0, "error_cb": heard.append}
        admin = AdminClient({**kafka.librdkafka(), **told})
    except ConfigurationError as problem:
        said, _, todo = str(problem).partition(": ")
        yield Found(f"{kafka.password_file}", said, todo)
        return
    ends_s = time.monotonic() + 2 * _WAIT_S
    found = None
    while found is None:
        try:
            found = admin.list_topics(timeout=1.0)
        except KafkaException as problem:
            admin.poll(0)  # hands over what was heard
            if any(one.code() == _AUTHENTICATION for one in heard) or time.monotonic() > ends_s:
                yield _refused(kafka, [*heard, problem.args[0]])
                return
    for broker in found.brokers.values():
        try:
            socket.create_connection((broker.host, broker.port), _WAIT_S).close()
        except OSError as problem:
            why = problem.strerror or "no answer"
            yield Found(
                f"broker {broker.id} at {broker.host}:{broker.port}",
                f"the cluster names it so, and nobody takes a connection there ({why})",
                "set the broker's advertised.listeners to an address that is valid from here",
            )  # fmt: skip  # what, why, what to do


def _refused(kafka: Kafka, heard: list[KafkaError]) -> Found:
    """The most telling of what the client heard."""
    for error in heard:
        if error.code() == _AUTHENTICATION:
            return Found(
                kafka.principal, error.str(),
                "correct kafka.username and its password; kafka.sasl_mechanism must be one "
                "that the user has a password for",
            )  # fmt: skip  # what, why, what to do
    why = heard[0].str()
    if kafka.uses_sasl:
        todo = "see that this port expects SASL: kafka.bootstrap, kafka.security_protocol"
    else:
        todo = "it may want a password: kafka.security_protocol, username and password_file"
    return Found(kafka.bootstrap, f"it takes connections and answers nothing: {why}", todo)


def addresses(bootstrap: str) -> list[Address]:
    """Host and port of each.

    >>> addresses("kafka-1:9092, [::1]:9093")
    [('kafka-1', 9092), ('::1', 9093)]
    """
    parts = (one.strip().rpartition(":") for one in bootstrap.split(","))
    return [(host.strip("[]"), int(port)) for host, _, port in parts]


ADDRESS: Final = Check("address", "does a broker take connections where we look for it?", _address)
TLS: Final = Check("tls", "does it prove who it is, as we ask it to?", _tls, ("address",))
LOGIN: Final = Check("login", "does it believe us, and name brokers that we reach?", _login,
                     ("address", "tls"))  # fmt: skip  # two lines
