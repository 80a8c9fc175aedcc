"""A baseline's file is read strictly: every fault at once, and nothing of a bad file is used."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UntrustedFile
from models.normal import Normal, Usual
from models.normalfile import MOST_BYTES, read_normal
from streams.commands.baseline import _json, _toml

USUAL = Usual("memory_working_set_bytes", "B", 2.5e8, 2.1e8, 3.0e8, 0.04, 120.0)
SENT = Usual("network_transmit_bytes_per_s", "B/s", 2e4, 0.0, 6e4, 0.3, 118.0)
NORMAL = Normal(
    "staging", "shop/web", "api", "shop/web@sha256:1", 10**18, 0.99, 400.0, 6.2, (USUAL, SENT),
    ("peer 192.0.2.7:443", 'prog /bin/"sh" < ', "prog \x1b[2J < x"),
)  # fmt: skip  # as the fields lie
TOML = "\n".join(_toml(NORMAL))


@pytest.mark.parametrize("text", [TOML, _json(NORMAL)])
def test_what_export_writes_import_reads(text: str) -> None:
    """The same baseline, from either form; names chosen by containers included."""
    assert read_normal(text.encode(), "web") == NORMAL


def test_a_person_may_leave_out_what_is_not_meant() -> None:
    """A review changes one line: the rest of the file need not be there."""
    text = (
        'lineage = "shop/web"\nimage = "shop/web@1"\n[features.cpu_cores]\nunit = "cores"\n'
        "usual = 1\nlow = 0.5\nhigh = 2\ndeviation = 0.2\nblocks = 20\n"
    )

    found = read_normal(text.encode(), "web")

    assert [one.feature for one in found.features] == ["cpu_cores"]
    assert (found.role, found.facts) == ("", ())


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (("usual = 2.500000e+08", "usual = 9e9"), "memory_working_set_bytes.usual = 9e+09"),
        (("usual = 2.500000e+08", "usual = nan"), "features.memory_working_set_bytes.usual = nan"),
        (("deviation = 4.000000e-02", "deviation = 0"), "deviation = 0: expected more than 0"),
        (('unit = "B/s"', 'unit = "kB/s"'), "unit = 'kB/s': expected 'B/s'"),
        (("[features.network_transmit", "[features.transmit"), "there is no such feature"),
        (("blocks = 1.2", "block = 1.2"), "features.memory_working_set_bytes.block: there is no"),
        (('"peer 192.0.2.7:443"', '"everything"'), "'everything' begins with no kind"),
        (('lineage = "shop/web"', 'lineage = ""'), "lineage: must not be empty"),
        (("known = 0.990", "known = -1"), "known = -1: expected a number, 0 or more"),
        (('scope = "staging"', "scope = 7"), "scope = 7: expected text"),
        (("line = 6.200", "lines = 6.200"), "lines: there is no such entry"),
    ],
)  # fmt: skip  # a table
def test_a_fault_is_named_with_its_place(edit: tuple[str, str], told: str) -> None:
    """What, where, what to do: a person has edited the file."""
    changed = TOML.replace(*edit)
    assert changed != TOML

    with pytest.raises(UntrustedFile) as refused:
        read_normal(changed.encode(), "web.toml")

    assert told in str(refused.value)
    assert "web.toml" in str(refused.value)


def test_all_faults_are_told_at_once() -> None:
    """Otherwise the file is corrected once for each."""
    changed = TOML.replace("usual = 2.5", "usual = -2.5").replace('unit = "B/s"', 'unit = "B"')

    with pytest.raises(UntrustedFile, match="2 faults"):
        read_normal(changed.encode(), "web.toml")


def test_a_feature_that_stands_there_twice_is_refused() -> None:
    """JSON's list would let the later one win in silence."""
    text = orjson.dumps(replace(NORMAL, features=(USUAL, USUAL)))

    with pytest.raises(UntrustedFile, match="twice"):
        read_normal(text, "web.json")


@pytest.mark.parametrize("content", [b"\xff", b"{", b"x" * (MOST_BYTES + 1), b"[1]", b"a = 1"])
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    """And nothing but refused."""
    with pytest.raises(UntrustedFile):
        read_normal(content, "web")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["scope", "lineage", "image", "features", "facts", "cpu_cores", "unit",
                             "usual", "low", "known", "first_ns"]), inner),
        max_leaves=20,
    )
)  # fmt: skip  # one strategy
def test_whatever_a_file_holds_it_is_read_or_refused(body: object) -> None:
    """A file from elsewhere may be anything."""
    try:
        content = orjson.dumps(body)
    except TypeError:
        return  # an integer beyond 64 bits: no JSON of ours
    with contextlib.suppress(UntrustedFile):
        read_normal(content, "web")
