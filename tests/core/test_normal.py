"""A baseline as people read it, and two versions side by side."""

from __future__ import annotations

import dataclasses

import pytest

from models.detection import Detection
from models.features import INDEX
from models.lineage import LineageState
from models.normal import differences, normal
from models.portrait import portrait
from tests.core.fleet import Lineage, Watch, deploy


def learned(*, deployed: bool = False) -> tuple[Lineage, LineageState]:
    lineage, watch = Lineage("web", 4, 5.0), Watch()
    watch.run([lineage], 900, deploy(300.0) if deployed else None)
    return lineage, watch.states[lineage.group]


def test_what_is_usual_is_told_in_the_unit_of_the_feature() -> None:
    """Nobody reviews an inverse hyperbolic sine."""
    _, state = learned()
    (image,) = state.images.values()

    shown = normal(state, image, Detection())

    usual = {one.feature: one for one in shown.features}
    memory = usual["memory_working_set_bytes"]
    assert memory.unit == "B"
    assert 200e6 < memory.low < memory.usual < memory.high < 320e6
    assert 0.02 < memory.deviation < 0.5
    assert memory.blocks >= 4
    assert shown.known > 0.9
    assert "peer 203.0.113.20:443" in shown.facts


def test_two_versions_differ_where_the_new_one_does_something_else() -> None:
    """The difference is what a reviewer of a release wants to see, and nothing beside it."""
    _, state = learned(deployed=True)
    old, new = sorted(state.images.values(), key=lambda one: one.first_ns)

    changes = {one.feature: one for one in differences(old, new)}

    grown = changes["memory_working_set_bytes"]
    assert grown.material
    assert grown.before is not None
    assert grown.after is not None
    assert grown.after.usual / grown.before.usual == pytest.approx(1.5, rel=0.2)
    assert changes["processes"].material
    assert not changes["disk_read_bytes_per_s"].material


def test_a_feature_that_one_version_never_had_is_a_difference() -> None:
    """Silence is not equality."""
    _, state = learned()
    (image,) = state.images.values()
    blocks = image.baseline.blocks.copy()
    blocks[INDEX["cpu_cores"]] = 0
    bare = dataclasses.replace(image, baseline=dataclasses.replace(image.baseline, blocks=blocks))

    first = differences(image, bare)[0]

    assert (first.feature, first.after, first.deviations) == ("cpu_cores", None, None)
    assert first.material


def test_a_portrait_names_what_is_left_once_the_siblings_are_taken_out() -> None:
    """What all do together is nobody's fault, and must be seen to be so."""
    lineage, state = learned()
    subject = lineage.pods[1].member.subject

    shown = portrait(state, subject, None, Detection())

    assert shown is not None
    assert (shown.siblings, shown.surprise) == (3, None)
    assert [abs(one.left) for one in shown.traits] == sorted(
        (abs(one.left) for one in shown.traits), reverse=True
    )
    assert all(abs(one.left) <= abs(one.off) + 1e-9 for one in shown.traits)
    assert portrait(state, "nobody", None, Detection()) is None
