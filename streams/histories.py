"""What containers were like, kept while a window is judged anew, to learn from at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models import history
from models.features import Array
from models.history import History
from models.modelfile import MOST_HISTORIES

MOST_ROWS: Final = 4_000_000
"""Samples kept in all, of 60 bytes each."""
_MOST_CONTAINERS: Final = 8
_MOST_OF_ONE: Final = 8_192


class Histories:
    """By group (``SCOPE/LINEAGE/ROLE``) and container: the newest samples, in order.

    No more groups than a model file holds, nor :data:`MOST_ROWS` samples: where there are more,
    less is kept of each container.
    """

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self._groups: dict[str, dict[str, list[Array]]] = {}
        self._rows, self._most = 0, most_rows
        self._of_one = _MOST_OF_ONE
        self.left_out: set[str] = set()
        """Groups beyond what a file holds."""

    def add(self, group: str, seen: Mapping[str, Array]) -> None:
        if group not in self._groups and len(self._groups) >= MOST_HISTORIES:
            self.left_out.add(group)
            return
        containers = self._groups.setdefault(group, {})
        for subject, rows in seen.items():
            if subject in containers or len(containers) < _MOST_CONTAINERS:
                containers.setdefault(subject, []).append(rows.astype(np.float32))
                self._rows += len(rows)
        while self._rows > self._most and self._of_one > history.LEAST_ROWS:
            self._shorten()

    def _shorten(self) -> None:
        """Every container to what one may hold, and where all do, to half of that."""
        before = self._rows
        for containers in self._groups.values():
            for subject, parts in containers.items():
                containers[subject] = [np.concatenate(parts)[-self._of_one :].copy()]
        self._rows = sum(
            len(part) for containers in self._groups.values()
            for parts in containers.values() for part in parts
        )  # fmt: skip  # one expression
        if self._rows > 0.9 * before:
            self._of_one //= 2

    def learned(self) -> dict[str, History]:
        """Of each group whose history is long enough."""
        found: dict[str, History] = {}
        for group, containers in self._groups.items():
            rows = [np.concatenate(parts)[-self._of_one :] for parts in containers.values()]
            if sum(map(len, rows)) >= history.LEAST_ROWS:
                found[group] = history.learned([one.astype(np.float64) for one in rows])
        return found
