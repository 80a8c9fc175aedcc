"""A shadow model beside the active one: what differs is counted, nothing else comes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.features import Array
from models.lineage import Image
from models.records.verdict import Shadow


def tally(image: Image, active: Array, shadow: Array, model: str) -> None:
    """Add samples to the open minute of their image. ``active`` and ``shadow``: surprise of
    each sample, nats; without an active forest its surprise is 0.
    """
    before = image.shadow
    if before is None or before.model != model:
        before = Shadow(model)
    image.shadow = _added(before, active, shadow, image.line)


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
