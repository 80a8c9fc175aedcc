"""What a person reads."""

from __future__ import annotations

import math

import pytest

from models import reasons
from models.features import INDEX


@pytest.mark.parametrize(
    ("lasted_s", "said"), [(0.0, "rising, just now; usual"), (75.2, "rising, for 75 s; usual")]
)
def test_a_magnitude_says_how_long_it_has_been_so(lasted_s: float, said: str) -> None:
    """«For 0 s» reads as if it were over."""
    told = reasons.magnitude(
        INDEX["cpu_cores"], 4.0, 0.5, 1.0, "2 siblings unchanged", 0.9, lasted_s, rising=True
    )
    assert said in told.text


def test_what_is_no_longer_measured_is_said_to_be() -> None:
    """A container that is cut off sends nothing that could be counted: "nan B/s" helps nobody."""
    told = reasons.magnitude(
        INDEX["network_transmit_bytes_per_s"], math.nan, 0.1, 3.0, "no siblings", 0.9, 125.0,
        rising=False,
    )  # fmt: skip  # in the order of the function

    assert told.text.startswith("sent (not measured now), for 125 s; usual ")
    assert told.value is None
    assert told.usual_high is not None
