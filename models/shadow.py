"""A shadow model beside the active one: what differs is counted, nothing else comes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.features import Array
from models.lineage import LineageState
from models.magnitudes import Taken
from models.records.verdict import Shadow

Flags = npt.NDArray[np.bool_]


def tally(
    state: LineageState, taken: Taken, active: Array | None, shadow: Array, model: str
) -> None:
    """Add a batch to the open minute of its images. ``active`` and ``shadow``: surprise of
    each sample, nats; without an active forest its surprise is 0.
    """
    samples = taken.samples
    names = [state.members.who[row].image for row in samples.rows.tolist()]
    deciding = np.zeros(len(shadow)) if active is None else active
    for name in dict.fromkeys(names):
        image = state.images[name]
        mine: Flags | slice = slice(None)
        if len(set(names)) > 1:
            mine = np.array([other == name for other in names])[samples.of]
        before = image.shadow
        if before is None or before.model != model:
            before = Shadow(model)
        image.shadow = _added(before, deciding[mine], shadow[mine], image.line)


def _added(before: Shadow, active: Array, shadow: Array, line: float) -> Shadow:
    ours, theirs = active >= line, shadow >= line
    both = int(np.count_nonzero(ours & theirs))
    return replace(
        before,
        samples=before.samples + len(active),
        both=before.both + both,
        active_only=before.active_only + int(np.count_nonzero(ours)) - both,
        shadow_only=before.shadow_only + int(np.count_nonzero(theirs)) - both,
        sum_active=before.sum_active + float(active.sum()),
        sum_shadow=before.sum_shadow + float(shadow.sum()),
        squares_active=before.squares_active + float(np.einsum("i,i", active, active)),
        squares_shadow=before.squares_shadow + float(np.einsum("i,i", shadow, shadow)),
        products=before.products + float(np.einsum("i,i", active, shadow)),
    )
