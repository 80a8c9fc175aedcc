"""Bytes → record → bytes: exact for what is valid, one error for everything else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import MalformedRecord
from models.records import decode, encode
from models.records.frame import Frame
from models.records.telemetry import Batch, Sightings
from tests.core.records.strategies import RECORDS, batches, records, sightings

json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_was_written_is_read_back_to_the_byte(kind: type[Any], data: st.DataObject) -> None:
    """Redelivery, replay and signatures all stand on it."""
    record = data.draw(records(kind))
    written = encode(record)

    read = decode(kind, written)

    assert read == record
    assert encode(read) == written


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@given(junk=st.binary(max_size=64))
def test_junk_raises_the_one_error(kind: type[Any], junk: bytes) -> None:
    """Anything else would end the worker, and with it everybody's records."""
    with pytest.raises(MalformedRecord):
        decode(kind, junk)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_valid_record_with_one_wrong_value_is_read_or_refused(
    kind: type[Any], data: st.DataObject
) -> None:
    """Hostile records look almost right."""
    body = orjson.loads(encode(data.draw(records(kind))))
    holder, key = data.draw(st.sampled_from(list(_places(body))))
    holder[key] = data.draw(json)
    try:
        damaged = orjson.dumps(body)
    except (orjson.JSONEncodeError, TypeError):
        return
    try:
        record = decode(kind, damaged)
    except MalformedRecord:
        return
    assert decode(kind, encode(record)) == record


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


@given(batches())
def test_the_error_names_the_place(batch: Batch) -> None:
    """Whoever reads the dead letter must find the value without a debugger."""
    body = orjson.loads(encode(batch))
    body["samples"]["columns"][0][0] = "fast"

    with pytest.raises(MalformedRecord) as refusal:
        decode(Batch, orjson.dumps(body))

    assert refusal.value.place == "samples.columns[0]"
    assert refusal.value.fault == "mistyped"


@given(batches())
def test_a_field_from_a_later_release_is_passed_over(batch: Batch) -> None:
    """Collectors are upgraded host by host, before or after the workers."""
    body = orjson.loads(encode(batch))
    body["colour"] = body["members"][0]["colour"] = "red"

    assert decode(Batch, orjson.dumps(body)) == batch


@given(sightings())
def test_a_kind_of_fact_from_a_later_release_is_passed_over(seen: Sightings) -> None:
    """A collector that is upgraded first must not lose its whole frame, samples and all."""
    body = orjson.loads(encode(seen))
    later = {**body["observations"][0], "fact": {"kind": "dream", "of": "sheep"}}
    body["observations"].insert(1, later)

    assert decode(Sightings, orjson.dumps(body)) == seen

    body["observations"] = [later]
    with pytest.raises(MalformedRecord) as refusal:
        decode(Sightings, orjson.dumps(body))
    assert (refusal.value.fault, refusal.value.place) == ("empty", "observations")


@given(sightings())
def test_a_fact_without_a_kind_is_refused_with_its_place(seen: Sightings) -> None:
    """That is no later release's."""
    body = orjson.loads(encode(seen))
    body["observations"][0]["fact"]["kind"] = 7

    with pytest.raises(MalformedRecord) as refusal:
        decode(Sightings, orjson.dumps(body))

    assert refusal.value.place == "observations[0].fact.kind"


@given(batches())
def test_a_later_format_is_refused_with_its_number(batch: Batch) -> None:
    """Guessing at a format would teach the baseline nonsense."""
    body = orjson.loads(encode(batch)) | {"v": 2}

    with pytest.raises(MalformedRecord, match="format 2, this release reads 1") as refusal:
        decode(Batch, orjson.dumps(body))

    assert refusal.value.fault == "unknown-schema"


def test_a_row_without_a_measurement_is_refused() -> None:
    """A collector that reads nothing must be seen to read nothing."""
    row = (
        '{"features":["cpu_cores"],"subjects":["a"],"index":[0],"times_ns":[%d],"columns":[[null]]}'
    )
    frame = (
        '{"v":1,"scope":"s","host":"h","pool":"p","producer":"q","sequence":0,"at_ns":%d,'
        '"interval_s":1,"samples":' + row + "}"
    )
    now_ns = 1_700_000_000 * 10**9

    with pytest.raises(MalformedRecord) as refusal:
        decode(Frame, (frame % (now_ns, now_ns)).encode())

    assert (refusal.value.fault, refusal.value.place) == ("empty", "samples.columns[:][0]")


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    with pytest.raises(MalformedRecord):
        decode(Frame, b"[" * 100_000)
