"""Fewer detectors, the same path: what each finds without the other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models import features, pipeline
from models.detection import DETECTORS, Detection, Detector
from models.detectors.forest import Forest
from models.pipeline import Core, Models
from models.records.telemetry import Batch
from models.records.verdict import Level
from models.training import fit
from tests.core.fleet import START_NS, Lineage, Story, Watch, exfiltration, load_spike

FOREST = Forest(fit(np.random.default_rng(5).normal(0, 1, (600, features.SIZE)), features.NAMES, 5))


def judged(
    story: Story | None, *detectors: Detector, forests: tuple[Forest, ...] = (FOREST,)
) -> Watch:
    """Magnitudes only: facts would speak for themselves."""
    core = Core(Models(tuple((0, one) for one in forests)), Detection(detectors=detectors))
    lineage, watch = Lineage("web", 4, 5.0), Watch(core)
    while lineage.now_s < 900.0:
        for arrival in lineage.next(story):
            if isinstance(arrival.record, Batch):
                watch.take(pipeline.judge(watch.states, [arrival], core))
    return watch


@pytest.mark.parametrize("detectors", [DETECTORS, ("distance",), ("forest",)])
def test_any_set_of_detectors_finds_a_flood_and_is_quiet_before(
    detectors: tuple[Detector, ...],
) -> None:
    """Where magnitudes are weighed by one of them alone, somebody still watches."""
    watch = judged(exfiltration(700.0), *detectors)

    before = [f for f in watch.findings if f.verdict.at_ns < START_NS + 700 * 10**9]
    assert watch.worst(700.0).rank >= Level.CORRUPTED.rank
    assert {finding.verdict.level for finding in before} <= {Level.QUIET, Level.WATCH}


def test_the_forest_alone_says_nothing_where_there_is_none() -> None:
    """A model that did not arrive is silence, not an alarm."""
    assert not judged(exfiltration(700.0), "forest", forests=()).findings


def test_the_distance_alone_asks_no_forest() -> None:
    """Verdicts name the model that had a part in them."""
    watch = judged(exfiltration(700.0), "distance")

    assert watch.verdicts
    assert {verdict.model for verdict in watch.verdicts} == {""}


def test_siblings_are_taken_out_by_the_distance_only() -> None:
    """What the setting's page says one gives up."""
    both, alone = judged(load_spike(700.0), *DETECTORS), judged(load_spike(700.0), "forest")

    assert both.worst(700.0).rank < alone.worst(700.0).rank


def test_what_is_normal_is_learned_alike() -> None:
    """Detectors weigh; they never teach. Else they could not be changed on a running fleet."""
    (one,), (other,) = (judged(None, *d).states.values() for d in (DETECTORS, ("forest",)))

    for (name, image), mine in zip(one.images.items(), other.images.values(), strict=True):
        # what lasts of departures is the distance's own
        for held in dataclasses.fields(image.baseline):
            if not held.name.startswith("lasting"):
                np.testing.assert_array_equal(
                    getattr(image.baseline, held.name), getattr(mine.baseline, held.name), name
                )
