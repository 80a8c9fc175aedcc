"""The poisoning curve still runs and is drawn: three short pushes."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from infra.bench import poisoning
from infra.bench.poisoning_plot import drawn


def test_a_push_that_nobody_could_miss_is_caught_and_drawn() -> None:
    """And one too small for a word is not, or the curve would show the meter, not the judge."""
    made = poisoning.pushes([1], [10.0, 1e6], [0.25], 0.3, 10.0)

    small, large, doubling = made
    assert small.caught_h is None
    assert large.caught_h is not None
    assert large.caught_h < 0.05
    assert large.took_h(1_000_000) is None
    assert doubling.name == "doubling every 0.25 h"
    assert len(poisoning.summed(made)) == 3
    assert ET.fromstring(drawn(poisoning.curves(made))).tag.endswith("svg")
