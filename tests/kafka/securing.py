"""A Kafka that believes nobody, with an identity for each part; and how tests take rights away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.secured import SecuredKafka
from models.contract import Topics
from models.permissions import PARTS, Names, Operation, Permission, permissions
from streams.permitted import missing
from tests.fixtures_kafka import start_or_skip

DEADLINE_S = 60.0
TOPICS = Topics()
NAMES = Names()


@contextmanager
def secured_kafka(directory: Path) -> Iterator[SecuredKafka]:
    """Topics made by who may, each part with what the command prints for it, and no more."""
    made = SecuredKafka(directory, list(PARTS))
    start_or_skip(made.server)
    with made as secured:
        said = json.loads(plimsoll(secured, "collect", "topics", "acls", "--json").stdout)
        for one in said:
            permission = Permission(one["kind"], one["name"], tuple(one["operations"]))
            secured.grant(one["part"], [permission])
        created = plimsoll(secured, "topics", "topics", "create", "--partitions", "4", "--json")
        assert created.returncode == 0, created.stdout
        secured.create(  # as their owners would: of a topic that is not there no right is told
            {f"{NAMES.worker}-baselines-changelog": 4, f"{NAMES.governor}-incidents-changelog": 1}
        )
        yield secured


def environment(kafka: SecuredKafka, user: str, directory: Path | None = None) -> dict[str, str]:
    data = {"PLIMSOLL_DATA_DIR": str(directory)} if directory else {}
    return {**os.environ, **kafka.environment(user), **data}


def plimsoll(
    kafka: SecuredKafka,
    user: str,
    *words: str,
    directory: Path | None = None,
    told: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "streams", *words),
        env={**environment(kafka, user, directory), **(told or {})},
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip  # one call


@contextmanager
def without(
    kafka: SecuredKafka, part: str, permission: Permission, *operations: Operation
) -> Iterator[None]:
    """The part's identity lacks that, in here."""
    lost = Permission(permission.kind, permission.name, operations or permission.operations)
    kafka.take(part, lost)
    try:
        until_lacks(kafka, part, [lost])
        yield
    finally:
        kafka.grant(part, [lost])
        until_lacks(kafka, part, [])


def until_lacks(kafka: SecuredKafka, part: str, wanted: list[Permission]) -> None:
    """Wait until the broker goes by what was taken or granted."""
    ends_s = time.monotonic() + DEADLINE_S
    while (found := lacks(kafka, part)) != wanted:
        assert time.monotonic() < ends_s, f"{part} lacks {found}, not {wanted}"
        time.sleep(0.05)


def lacks(kafka: SecuredKafka, part: str) -> list[Permission]:
    return missing(kafka.kafka(part), permissions(part, NAMES))


def until(done: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> Any:
    ends_s = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < ends_s, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


def permission(part: str, kind: str, name: str) -> Permission:
    (found,) = (one for one in permissions(part, NAMES) if (one.kind, one.name) == (kind, name))
    return found


def told_of(kafka: SecuredKafka, user: str) -> dict[str, Any]:
    one = kafka.kafka(user)
    return {
        "bootstrap": one.bootstrap, "security_protocol": one.security_protocol,
        "username": one.username, "password": one.password, "ca_file": one.ca_file,
    }  # fmt: skip  # a table
