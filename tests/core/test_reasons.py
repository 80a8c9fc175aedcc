"""What a person reads."""

from __future__ import annotations

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
