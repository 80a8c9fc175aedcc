"""The facts that all parts share."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from models.contract import Topics, murmur2, partition_of


@given(st.binary(max_size=40))
def test_our_hash_is_the_one_that_faust_uses(key: bytes) -> None:
    """Otherwise a lineage's records would meet in no partition."""
    assert murmur2(key) & 0xFFFFFFFF == aiokafka_murmur2(key) & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "hashed"), [(b"21", -973932308), (b"foobar", -790332482)])
def test_known_hashes(key: bytes, hashed: int) -> None:
    """From the tests of Kafka's own client."""
    assert murmur2(key) == hashed & 0xFFFFFFFF
    assert partition_of(key, 7) == (hashed & 0x7FFFFFFF) % 7


def test_every_topic_carries_the_prefix() -> None:
    """Two deployments on one cluster must not share a topic."""
    topics = Topics("staging.")

    assert all(name.startswith("staging.") for name in topics.all())
    assert topics.telemetry in topics.all()
    assert len(set(topics.all())) == 13
