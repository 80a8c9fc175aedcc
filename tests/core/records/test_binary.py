"""The binary form of a batch: the same record as its JSON, and nothing but the one error."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import MalformedRecord
from models.records import decode, encode, telemetry
from models.records.frame import Frame
from models.records.samples import MOST_ROWS, Samples
from models.records.telemetry import Batch, Member, Tick, written
from tests.core.records.strategies import batches

KEPT = Path(__file__).parent.parent / "kept/records-0.1.0"
HEAD = struct.Struct("<4sBcHII")
NOW_NS = 1_700_000_000 * 10**9

edges = st.sampled_from([0, 1, 2, 7, 255, 256, 65_535, 2**31, 2**32 - 1])


def batch(rows: int = 3, values: Any = None) -> Batch:
    members = (Member("a" * 64, "node-1", "shop@sha256:1"), Member("b" * 64, "node-2", "shop"))
    columns = np.array(values if values is not None else np.arange(2.0 * rows).reshape(2, rows))
    samples = Samples(
        ("cpu_cores", "processes"), tuple(member.subject for member in members),
        np.arange(rows) % 2, NOW_NS + np.arange(rows), columns,
    )  # fmt: skip  # one thought a line
    return Batch("default", "shop", "web", members, samples, 1.0)


def with_lines(data: bytes, change: Any) -> bytes:
    """The same batch with other lines of text, its head and padding set right."""
    head = list(HEAD.unpack_from(data))
    end = HEAD.size + head[5]
    lines = change(data[HEAD.size : end].split(b"\n"))
    text = b"\n".join(lines)
    head[5] = len(text)
    numbers = data[end + -end % 8 :]
    return HEAD.pack(*head) + text + bytes(-(HEAD.size + len(text)) % 8) + numbers


def refused(data: bytes) -> MalformedRecord:
    with pytest.raises(MalformedRecord) as refusal:
        decode(Batch, data)
    return refusal.value


@given(batches())
def test_both_forms_hold_the_same_record_to_the_bit(record: Batch) -> None:
    """A verdict must not depend on the form in which its batch came."""
    read = decode(Batch, record.to_binary())

    assert encode(read) == encode(record)
    assert read.to_binary() == record.to_binary()
    assert read.members == record.members
    assert read.samples.columns.dtype == np.float64
    assert read.samples.index.dtype == read.samples.times_ns.dtype == np.int64


@given(batches(), st.data())
def test_no_cut_and_no_addition_is_taken_for_the_whole(record: Batch, data: st.DataObject) -> None:
    """Half a batch that were read as one would be judged as one."""
    whole = record.to_binary()
    cut = data.draw(st.integers(4, len(whole) - 1))

    assert refused(whole[:cut]).fault == "undecodable"
    assert refused(whole + data.draw(st.binary(min_size=1, max_size=9))).fault == "undecodable"


@given(batches(), edges, edges, edges)
def test_forged_counts_are_refused_and_cost_nothing(
    record: Batch, features: int, rows: int, text: int
) -> None:
    """A head of sixteen bytes may claim petabytes."""
    whole = record.to_binary()
    counts = (features % 65_536, rows, text)
    forged = HEAD.pack(*HEAD.unpack_from(whole)[:3], *counts) + whole[HEAD.size :]
    try:
        read = decode(Batch, forged)
    except MalformedRecord:
        return
    assert read == record, "only the right counts fit"


@given(batches(), st.data())
def test_damaged_bytes_are_read_or_refused(record: Batch, data: st.DataObject) -> None:
    """Hostile records look almost right."""
    damaged = bytearray(record.to_binary())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode(Batch, bytes(damaged))
    except MalformedRecord:
        return
    again = decode(Batch, read.to_binary())
    assert encode(again) == encode(read)


@given(st.binary(max_size=96))
def test_junk_behind_the_magic_raises_the_one_error(junk: bytes) -> None:
    """Anything else would end the worker, and with it everybody's records."""
    refused(b"\x89PLB" + junk)
    refused(b"\x89PLB\x01d" + junk)


@pytest.mark.parametrize(
    ("at", "byte", "fault", "place"),
    [(4, 2, "unknown-schema", "v"), (5, ord("q"), "unknown-schema", "samples.columns")],
)
def test_what_a_later_release_may_write_is_refused_by_name(
    at: int, byte: int, fault: str, place: str
) -> None:
    """Guessing at a format would teach the baseline nonsense."""
    data = bytearray(batch().to_binary())
    data[at] = byte

    refusal = refused(bytes(data))

    assert (refusal.fault, refusal.place) == (fault, place)


@pytest.mark.parametrize(
    ("change", "fault", "place"),
    [
        (lambda lines: [lines[0], b"{", lines[2]], "undecodable", "members[0]"),
        (lambda lines: [lines[0], lines[1], b"{}"], "missing", "members[1].subject"),
        (lambda lines: [lines[0], lines[1], b'{"subject":7}'], "mistyped", "members[1].subject"),
        (lambda lines: [lines[0], lines[1]], "out-of-range", "samples.index"),
        (lambda lines: [b"\xff", *lines[1:]], "undecodable", ""),
        (lambda lines: [b"[]", *lines[1:]], "undecodable", ""),
        (lambda lines: [lines[0].replace(b'"cpu_cores",', b""), *lines[1:]], "mistyped",
         "samples.columns"),
        (lambda lines: [lines[0].replace(b"cpu_cores", b"processes"), *lines[1:]],
         "out-of-range", "samples.features"),
        (lambda lines: [lines[0].replace(b'"default"', b'"a/b"'), *lines[1:]], "out-of-range",
         "scope"),
        (lambda lines: [*lines, *[b"{}"] * 100_000], "oversized", "members"),
    ],
)  # fmt: skip  # a table
def test_a_fault_in_the_text_is_told_with_its_place(change: Any, fault: str, place: str) -> None:
    """Whoever reads the dead letter must find the value without a debugger."""
    refusal = refused(with_lines(batch().to_binary(), change))

    assert (refusal.fault, refusal.place) == (fault, place)


def test_an_infinite_value_and_too_many_rows_are_refused() -> None:
    data = batch().to_binary().replace(struct.pack("<d", 4.0), struct.pack("<d", np.inf))
    assert (refused(data).fault, refused(data).place) == ("out-of-range", "samples.columns[1]")

    many = MOST_ROWS + 1
    head, text = HEAD.unpack_from(data), data[HEAD.size : HEAD.size + HEAD.unpack_from(data)[5]]
    large = HEAD.pack(*head[:4], many, len(text)) + text
    large += bytes(-len(large) % 8 + many * (8 + 2 * 8 + 4))
    assert (refused(large).fault, refused(large).place) == ("oversized", "samples.index")


def test_values_in_float32_are_read_as_the_numbers_they_are() -> None:
    """Whoever measures in single precision may write it."""
    double = batch(values=[[0.25, 0.5, np.nan], [1.0, 2.0, 3.0]])
    data = double.to_binary()
    end = len(data) - 4 * 3 - 8 * 2 * 3
    single = data[:5] + b"f" + data[6:end] + double.samples.columns.astype("<f4").tobytes()
    single += data[-4 * 3 :]

    read = decode(Batch, single)

    assert read == double
    assert read.samples.columns.dtype == np.float64


def test_fields_from_a_later_release_are_passed_over() -> None:
    record = batch()
    data = with_lines(
        record.to_binary(),
        lambda lines: [orjson.dumps({**orjson.loads(line), "colour": "red"}) for line in lines],
    )

    assert decode(Batch, data) == record


def test_other_records_have_no_binary_form() -> None:
    """A header that lies about the kind is one dead letter."""
    for kind in (Frame, Tick):
        with pytest.raises(MalformedRecord, match="written as JSON"):
            decode(kind, batch().to_binary())


def test_who_comes_again_is_read_once_and_not_remembered_without_bound() -> None:
    """A hostile writer's endless lines must not fill the memory of a worker."""
    first, second = (decode(Batch, batch(rows).to_binary()) for rows in (1, 3))
    assert first.members[0] is second.members[0]

    before = telemetry._known_member.cache_info().currsize
    long = with_lines(
        batch().to_binary(),
        lambda lines: [lines[0], *[line[:-1] + b',"x":"' + b"y" * 2_000 + b'"}'
                                   for line in lines[1:]]],
    )  # fmt: skip  # one thought
    assert decode(Batch, long) == batch()
    assert telemetry._known_member.cache_info().currsize == before


def test_what_a_writer_is_told_to_write() -> None:
    record, tick = batch(), Tick(NOW_NS)

    assert written(record, "binary") == record.to_binary()
    assert written(record, "json") == encode(record)
    assert written(tick, "binary") == written(tick, "json") == encode(tick)


def test_kept_bytes_are_read_whole_and_written_again_as_they_were() -> None:
    """Archives and topics outlive the release that wrote them."""
    kept = (KEPT / "Batch.binary").read_bytes()
    read = decode(Batch, kept)

    assert read == decode(Batch, (KEPT / "Batch.json").read_bytes())
    assert read.to_binary() == kept
