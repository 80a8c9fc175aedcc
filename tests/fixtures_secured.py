"""The ``secured`` fixture: one real broker with TLS, passwords and access lists for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.secured import SecuredKafka
from tests.kafka.securing import secured_kafka


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("secured")) as made:
        yield made
