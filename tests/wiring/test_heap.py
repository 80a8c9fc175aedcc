"""Memory that arrays give back stays with the worker."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

GLIBC: Final = "CS_GNU_LIBC_VERSION" in os.confstr_names
"""Other C libraries are left as they are."""
FAULTS: Final = """
import resource
import numpy as np
from streams import heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def judged():
    before = faults()
    for _ in range(200):
        arrays = [np.ones(40_000) for _ in range(8)]
        del arrays
    return faults() - before

first, kept = judged(), heap.keep()
judged()
print(first, kept, judged())
"""


@pytest.mark.parametrize("said", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}], ids=["", "otherwise"])
def test_arrays_that_come_and_go_ask_the_system_for_nothing(said: dict[str, str]) -> None:
    """Each page that comes anew is filled in by the kernel: a sixth of judging. Who has said
    otherwise is obeyed.
    """
    silent = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=silent | said,
        capture_output=True,
        text=True,
        check=True,
    )
    first, kept, later = done.stdout.split()

    expected = GLIBC and not said
    assert kept == str(expected)
    if GLIBC:
        assert int(first) > 10_000
        assert (int(later) < int(first) / 50) == expected, done.stdout
