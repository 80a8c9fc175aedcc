"""A Kafka that believes nobody: TLS, a password for each (SCRAM), and rights one by one (ACLs).

What is not granted is refused, as on a cluster that belongs to others. The certificate is
made here, by an authority of its own, for 127.0.0.1 alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.kafka import KafkaServer, free_port
from models.permissions import Operation, Permission
from models.settings import Kafka

ADMIN: Final = "admin"
_ASK_S: Final = 20.0
MECHANISM: Final = "SCRAM-SHA-512"
_CONTROLLER: Final = "User:ANONYMOUS"
"""Whom the controller takes the broker for: their listener is on loopback, and in plain text."""


class SecuredKafka:
    """One broker with a password for each of ``users``, who may do nothing until granted it."""

    def __init__(self, directory: Path, users: Collection[str]) -> None:
        self.ca_file = directory / "ca.pem"
        self._passwords = {name: secrets.token_hex(12) for name in (*users, ADMIN)}
        directory.mkdir(parents=True, exist_ok=True)
        authority = Authority()
        self.ca_file.write_bytes(authority.pem)
        identity = directory / "broker.pem"
        identity.write_bytes(authority.identity("127.0.0.1"))
        port = free_port()
        self.server = KafkaServer(
            directory / "kafka", port=port,
            settings=self._settings(f"127.0.0.1:{port}", identity), users=self._passwords,
        )  # fmt: skip  # one line a thought

    def __enter__(self) -> Self:
        self.server.start()
        self._admin = AdminClient({**self.kafka(ADMIN).librdkafka()})
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.stop()

    def kafka(self, user: str) -> Kafka:
        """How that user reaches it."""
        return Kafka(
            bootstrap=self.server.bootstrap, security_protocol="sasl_ssl", username=user,
            password=self._passwords[user], ca_file=self.ca_file,
        )  # fmt: skip  # one line a thought

    def environment(self, user: str) -> dict[str, str]:
        """The same, as a part is told it."""
        kafka = self.kafka(user)
        told = {
            "BOOTSTRAP": kafka.bootstrap, "SECURITY_PROTOCOL": kafka.security_protocol,
            "USERNAME": user, "PASSWORD": kafka.password, "CA_FILE": str(self.ca_file),
        }  # fmt: skip  # a table
        return {f"PLIMSOLL_KAFKA__{name}": value for name, value in told.items()}

    def create(self, partitions: Mapping[str, int]) -> None:
        """Compacted topics, made by the administrator."""
        wanted = [
            NewTopic(name, count, 1, config={"cleanup.policy": "compact"})
            for name, count in partitions.items()
        ]
        for future in self._admin.create_topics(wanted).values():
            future.result(_ASK_S)

    # ---- rights -------------------------------------------------------------------------------

    def grant(self, user: str, permissions: Iterable[Permission]) -> None:
        """Allow these, and nothing else than before."""
        granted = [binding(user, one, op) for one in permissions for op in one.operations]
        for future in self._admin.create_acls(granted, request_timeout=_ASK_S).values():
            future.result(_ASK_S)

    def take(self, user: str, permission: Permission) -> None:
        """Allow this no longer."""
        lines = [binding(user, permission, one) for one in permission.operations]
        taken = [AclBindingFilter(*_fields(line)) for line in lines]
        for future in self._admin.delete_acls(taken, request_timeout=_ASK_S).values():
            assert future.result(_ASK_S), f"{user} had no right to {permission}"

    def _settings(self, here: str, identity: Path) -> dict[str, str]:
        control = f"127.0.0.1:{free_port()}"
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        who = f'username="{ADMIN}" password="{self._passwords[ADMIN]}"'
        return {
            "listeners": f"SASL_SSL://{here},CONTROLLER://{control}",
            "advertised.listeners": f"SASL_SSL://{here},CONTROLLER://{control}",
            "controller.quorum.bootstrap.servers": control,
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.enabled.mechanisms": MECHANISM,
            "sasl.mechanism.inter.broker.protocol": MECHANISM,
            f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": f"{login} {who};",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(identity.absolute()),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file.absolute()),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN};{_CONTROLLER}",
            "allow.everyone.if.no.acl.found": "false",
            "auto.create.topics.enable": "false",
        }


_OPERATIONS: Final[Mapping[Operation, AclOperation]] = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}


def _fields(one: AclBinding) -> tuple[Any, ...]:
    return (
        one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation,
        one.permission_type,
    )  # fmt: skip  # as the client orders them


def binding(user: str, permission: Permission, operation: Operation) -> AclBinding:
    """One line of Kafka's list: this user may do this with that, from anywhere."""
    kind = ResourceType.TOPIC if permission.kind == "topic" else ResourceType.GROUP
    return AclBinding(
        kind, permission.name, ResourcePatternType.LITERAL, f"User:{user}", "*",
        _OPERATIONS[operation], AclPermissionType.ALLOW,
    )  # fmt: skip  # as the client orders them


class Authority:
    """Whom the clients trust, and who vouches for the broker."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("Plimsoll test authority")
        made = self._certificate(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.pem = self._signed(made)

    def identity(self, address: str) -> bytes:
        """A private key and the certificate that it serves that address with (PEM)."""
        key = ec.generate_private_key(ec.SECP256R1())
        address_name = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        made = self._certificate(_named("broker"), key).add_extension(address_name, critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )  # fmt: skip  # two lines
        return private + self._signed(made)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
        )

    def _signed(self, made: x509.CertificateBuilder) -> bytes:
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
