"""What we override or call of Faust's private parts is what we read when we wrote it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import operator
from typing import Any

import pytest

READ = {
    "faust.transport.consumer:Consumer._add_gap": "d690b02a8aad",
    "faust.transport.consumer:Consumer._commit_offsets": "8cfc0efcc68d",
    "faust.transport.consumer:Consumer._commit_tps": "8094fb74a076",
    "faust.transport.consumer:Consumer._drain_messages": "30fba6e560f1",
    "faust.transport.consumer:Consumer._filter_committable_offsets": "80fcba8fed9c",
    "faust.transport.consumer:Consumer._new_offset": "041e8dc30f2e",
    "faust.transport.consumer:Consumer._wait_next_records": "1f67795402ab",
    "faust.transport.consumer:Consumer.ack": "478fc04e29ef",
    "faust.transport.consumer:Consumer.commit": "3182283665bd",
    "faust.transport.consumer:Consumer.getmany": "1b41be7cf1f1",
    "faust.transport.consumer:Consumer.on_buffer_drop": "f9034823c0f2",
    "faust.transport.consumer:Consumer.on_buffer_full": "c16ed40e13d8",
    "faust.transport.consumer:Consumer.on_partitions_revoked": "2550a9105d4c",
    "faust.transport.consumer:Consumer.perform_seek": "8c88bc25f247",
    "faust.transport.consumer:Consumer.resume_flow": "63f6ce287325",
    "faust.transport.consumer:Consumer.stop_flow": "5fd3d0a652a7",
    "faust.transport.consumer:Consumer.verify_all_partitions_active": "ca7f0a5275a8",
    "faust.transport.consumer:Consumer.wait_empty": "be7fdc44dce7",
    "faust.transport.consumer:ThreadDelegateConsumer._getmany": "5d6f5dc0eb16",
    "faust.transport.consumer:ThreadDelegateConsumer.highwater": "a5bb8eb8d1e1",
    "faust.transport.consumer:ThreadDelegateConsumer.subscribe": "fc247b6a7c77",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._commit": "f4f95a22defe",
    (
        "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer"
    ): "5fd89148e582",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records": "17bb4a98ab83",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread": "fabed00895eb",
    "faust.transport.drivers.aiokafka:Consumer._to_message": "677524ae0cd1",
    "faust.transport.drivers.aiokafka:Producer.send": "3533067944bf",
    "faust.transport.conductor:Conductor._subscriber": "657ab95530c5",
    "faust.transport.conductor:Conductor._update_tp_index": "34f9b85a1157",
    "faust.types.tuples:Message.ack": "696141016350",
    "faust.streams:Stream._channel_stop_iteration": "994f4f483ef2",
    "faust.agents.agent:Agent._execute_actor": "178bb1843941",
    "faust.tables.base:Collection.apply_changelog_batch": "a23e2afa40ad",
    "faust.tables.base:Collection.on_rebalance": "06ce70764acb",
    "faust.tables.base:Collection.on_recovery_completed": "2026594f8dd3",
    "faust.stores.memory:Store.on_recovery_completed": "d180d3a8b22b",
    "faust.tables.manager:TableManager.on_rebalance": "ca7681cc4ddc",
    "faust.tables.manager:TableManager.on_start": "00230eed64fa",
    "faust.tables.manager:TableManager.wait_until_tables_registered": "1b78d3ac324d",
    "faust.tables.manager:TableManager.recovery": "aca8eed74e55",
    "faust.tables.recovery:Recovery._build_offsets": "2597680d7fa5",
    "faust.tables.recovery:Recovery._restart_recovery": "3aa9414b3185",
    "faust.tables.recovery:Recovery._resume_streams": "e841a9bf6c72",
    "faust.tables.recovery:Recovery._seek_offsets": "d0e537cddabd",
    "faust.tables.recovery:Recovery._set_recovery_ended": "28ab33ea9d7f",
    "faust.tables.recovery:Recovery._set_recovery_started": "878d372adcd8",
    "faust.tables.recovery:Recovery._slurp_changelogs": "6f37174015c8",
    "faust.tables.recovery:Recovery._wait": "ed7e9ff84346",
    "faust.tables.recovery:Recovery.on_rebalance": "23169b7f9f5b",
    "faust.tables.recovery:Recovery.on_recovery_completed": "861bcb7bfde2",
    "faust.tables.recovery:Recovery.revoke": "950eba9be315",
    "faust.app.base:App._create_directories": "0c5f487c7b64",
    "faust.app.base:App._on_partitions_assigned": "6a8bb930f6ed",
    "faust.app.base:App._on_partitions_revoked": "0179134ab901",
    "faust.app.base:App._update_assignment": "e970cd63a562",
    "mode.services:Service.wait_first": "9d63956e4929",
    "mode.services:Service.crash": "61cc0acfabb6",
    "mode.utils.queues:FlowControlEvent.resume": "dd0f4a4b9727",
    "mode.utils.queues:FlowControlQueue.force_put_nowait": "666fe4862755",
    "mode.utils.queues:FlowControlQueue.in_pressure_high_state": "ce8487c8daf1",
    "mode.utils.queues:ThrowableQueue.clear": "90b2942fad1f",
    "aiokafka.consumer.fetcher:FetchResult.getall": "815c9360e720",
    "aiokafka.consumer.fetcher:Fetcher.fetched_records": "c9d369de9e88",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._do_heartbeat": "06f41f69acc4",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._do_rejoin_group": "34dc93659816",
    "aiokafka.consumer.group_coordinator:GroupCoordinator.reset_generation": "68df0a466bfb",
}


def test_faust_is_the_release_that_was_read() -> None:
    """Another release may have other private parts: read them, then move this pin."""
    assert importlib.metadata.version("faust-streaming") == "0.15.3"


@pytest.mark.parametrize("place", READ)
def test_a_private_part_is_as_it_was_read(place: str) -> None:
    """A change upstream loses records without an error: compare it with streams/delivery
    and run tests/kafka before renewing the digest.
    """
    assert digest(place) == READ[place], f"{place} has changed: now {digest(place)!r}"


def digest(place: str) -> str:
    """Of the source text, white space apart."""
    module, _, name = place.partition(":")
    part: Any = operator.attrgetter(name)(importlib.import_module(module))
    part = part.fget if isinstance(part, property) else getattr(part, "fun", part)
    source = " ".join(inspect.getsource(part).split())
    return hashlib.sha256(source.encode()).hexdigest()[:12]
