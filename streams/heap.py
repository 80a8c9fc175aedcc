"""What the C library does with memory that is given back."""

from __future__ import annotations

import ctypes
import os
from typing import Final

KEPT_BYTES: Final = 64 << 20
"""So much of what was given back stays with the process."""
_LARGEST_BYTES: Final = 32 << 20
"""What is larger is the system's at once; glibc takes no higher bound."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_SAID: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep() -> bool:
    """Let the process keep memory that its arrays give back; whether it does.

    Judging makes and drops arrays of some hundred kilobytes all the time. By itself glibc hands
    each back to the system and asks for it anew, which then fills in page after page: a sixth
    of judging. Who has said in the environment what malloc is to do is obeyed, and other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SAID):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
