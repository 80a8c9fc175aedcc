"""State survives as bytes, exactly, and for longer than one release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import MalformedRecord
from models.features import NAMES
from models.pipeline import Core
from models.records.facts import Exec, Observation
from models.records.telemetry import Sightings
from models.state import LineageState, pack, unpack
from tests.core.fleet import START_NS, Lineage, Watch, deploy, port_scan

KEPT = Path(__file__).parent / "kept" / "state-0.1.0.json"
"""Written by ``python -m tests.core.test_state`` at that release; never again."""


def lived() -> tuple[Lineage, Watch]:
    """Two versions, an open case, facts, blocks that wait."""
    lineage, watch = Lineage("web", 2, 5.0), Watch(Core())
    watch.run([lineage], 600)
    watch.run([lineage], 300, deploy(lineage.now_s + 5))
    watch.run([lineage], 10, port_scan(lineage.now_s + 5))
    return lineage, watch


LINEAGE, WATCH = lived()
STATE = WATCH.states[LINEAGE.group]
ROWS = pack(STATE)


def test_what_is_unpacked_packs_into_the_same_bytes() -> None:
    """And so nothing is lost on the way through the table."""
    assert pack(unpack(ROWS)) == ROWS
    assert pack(unpack(pack(LineageState()))) == pack(LineageState())
    assert len(STATE.images) == 2
    assert STATE.cases
    lifts = {name: image.lift for name, image in STATE.images.items()}
    assert {name: image.lift for name, image in unpack(ROWS).images.items()} == lifts
    assert all(lift.height for lift in lifts.values())


def test_rows_that_did_not_change_are_the_same_bytes() -> None:
    """Only changed rows are written: a sighting must not rewrite the baseline."""
    member = LINEAGE.pods[0].member
    at_ns = STATE.now_ns + 10**9
    record = Sightings(
        "default", LINEAGE.name, "", (member,),
        (Observation(member.subject, at_ns, Exec("ls")),),
    )  # fmt: skip
    from models.pipeline import Arrival, judge

    after = pack(judge(WATCH.states, [Arrival(LINEAGE.group, record, at_ns)], Core()).states[
        LINEAGE.group
    ])  # fmt: skip

    changed = {name for name in after if after[name] != ROWS.get(name)}
    assert changed <= {"l", "c/0"}


def test_an_image_takes_four_kilobytes_at_most() -> None:
    """A hundred thousand images must fit into a few workers."""
    lineage, watch = Lineage("web", 3, 5.0), Watch(Core())
    watch.run([lineage], 1800)
    rows = pack(watch.states[lineage.group])
    assert max(len(body) for name, body in rows.items() if name.startswith("b/")) <= 4096


def test_members_lie_in_chunks_of_64() -> None:
    """So that no row outgrows a Kafka message."""
    lineage, watch = Lineage("idle", 3, 5.0, siblings=130), Watch(Core())
    watch.run([lineage], 10)
    rows = pack(watch.states[lineage.group])
    assert {name for name in rows if name.startswith("c/")} == {"c/0", "c/1", "c/2"}
    assert pack(unpack(rows)) == rows


@given(st.sampled_from(sorted(ROWS)), st.binary(max_size=40), st.integers(0, 4000))
def test_bytes_that_are_no_state_raise_the_one_error(name: str, junk: bytes, at: int) -> None:
    """A torn or foreign row is a dead letter, not a crash."""
    body = ROWS[name]
    for broken in (junk, body[:at] if at < len(body) else body + b"x"):
        with pytest.raises(MalformedRecord):
            unpack(ROWS | {name: broken})


def relabelled(body: bytes, names: list[str], version: int = 1) -> bytes:
    length = int.from_bytes(body[:4], "little")
    header = orjson.loads(body[4 : 4 + length]) | {"features": names, "v": version}
    packed = orjson.dumps(header)
    return len(packed).to_bytes(4, "little") + packed + body[4 + length :]


def test_an_unknown_format_is_refused_by_name() -> None:
    """Guessing at a newer format would teach baselines nonsense."""
    with pytest.raises(MalformedRecord, match="format 2") as refusal:
        unpack(ROWS | {"l": relabelled(ROWS["l"], list(NAMES), 2)})
    assert refusal.value.fault == "unknown-schema"
    assert refusal.value.place == "l.v"


def test_a_feature_that_an_older_release_did_not_know_starts_cold() -> None:
    """A new feature resets nothing of what the others have learned."""
    names = ["was_called_otherwise", *NAMES[1:]]
    state = unpack({name: relabelled(body, names) for name, body in ROWS.items()})

    for name, image in state.images.items():
        base, before = image.baseline, STATE.images[name].baseline
        assert np.isnan(base.location[0])
        assert base.blocks[0] == 0
        np.testing.assert_array_equal(base.location[1:], before.location[1:])
    watch = Watch(Core(), {LINEAGE.group: state})
    watch.run([LINEAGE], 60)
    assert watch.summaries


def test_this_release_opens_what_an_older_one_kept() -> None:
    """An upgrade must not forget what every image is like."""
    kept = {name: bytes.fromhex(body) for name, body in orjson.loads(KEPT.read_bytes()).items()}

    state = unpack(kept)

    assert state.lineage == "shop/web"
    assert state.facts.normal("mate @shop/database:5432")
    assert {image.baseline.container_blocks > 10 for image in state.images.values()} == {True}
    lineage = Lineage("web", 2, 5.0, now_s=(state.now_ns - START_NS) / 1e9)
    watch = Watch(Core(), {lineage.group: state})
    watch.run([lineage], 60)
    assert watch.summaries


if __name__ == "__main__":
    lineage, watch = Lineage("web", 2, 5.0, siblings=2), Watch(Core())
    watch.run([lineage], 600)
    hexed = {name: body.hex() for name, body in pack(watch.states[lineage.group]).items()}
    KEPT.write_bytes(orjson.dumps(hexed))
