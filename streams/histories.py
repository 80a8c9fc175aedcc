"""What containers were like, kept while a window is judged anew, to learn from at its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from models import history
from models.features import Array
from models.history import History
from models.modelfile import MOST_HISTORIES

MOST_ROWS: Final = 4_000_000
"""Samples kept in all, of 60 bytes each."""
DOUBTED_NS: Final = 120 * 10**9
"""What came so long before somebody was called is doubted as well: nobody is called at once."""
_MOST_CONTAINERS: Final = 8
_MOST_OF_ONE: Final = 8_192


@dataclass(slots=True)
class _Kept:
    """The newest samples of one container, in parts with their times."""

    parts: deque[tuple[int, Array]] = field(default_factory=deque)
    rows: int = 0

    def add(self, at_ns: int, rows: Array) -> None:
        self.parts.append((at_ns, rows.astype(np.float32)))
        self.rows += len(rows)

    def shorten(self, most: int) -> None:
        while self.parts and self.rows - len(self.parts[0][1]) >= most:
            self.rows -= len(self.parts.popleft()[1])

    def doubt(self, since_ns: int) -> None:
        while self.parts and self.parts[-1][0] >= since_ns:
            self.rows -= len(self.parts.pop()[1])

    def together(self) -> Array:
        return np.concatenate([rows for _, rows in self.parts]).astype(np.float64)


class Histories:
    """By group (``SCOPE/LINEAGE/ROLE``) and container: the newest samples, in order.

    No more groups than a model file holds, nor :data:`MOST_ROWS` samples: where there are more,
    less is kept of each container.
    """

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self._groups: dict[str, dict[str, _Kept]] = {}
        self._rows, self._most, self._room = 0, most_rows, most_rows
        self._of_one = _MOST_OF_ONE
        self.left_out: set[str] = set()
        """Groups beyond what a file holds."""

    def add(self, group: str, at_ns: int, seen: Mapping[str, Array]) -> None:
        """What containers of a group were like in quiet times, at this time."""
        if group not in self._groups and len(self._groups) >= MOST_HISTORIES:
            self.left_out.add(group)
            return
        containers = self._groups.setdefault(group, {})
        for subject, rows in seen.items():
            if subject in containers or len(containers) < _MOST_CONTAINERS:
                containers.setdefault(subject, _Kept()).add(at_ns, rows)
                self._rows += len(rows)
        if self._rows > self._room:
            self._shorten()

    def doubt(self, group: str, at_ns: int) -> None:
        """Somebody is called at this time: what just came of his group teaches nothing."""
        for kept in self._groups.get(group, {}).values():
            self._rows -= kept.rows
            kept.doubt(at_ns - DOUBTED_NS)
            self._rows += kept.rows

    def _shorten(self) -> None:
        """Each container to what one may hold, which is less where that makes no room. Of very many
        no fewer are kept than teach something, whatever room that takes.
        """
        while True:
            for kept in self._every():
                kept.shorten(self._of_one)
            self._rows = sum(kept.rows for kept in self._every())
            if self._rows <= 0.8 * self._most or self._of_one <= history.LEAST_ROWS:
                break
            self._of_one //= 2
        self._room = max(self._most, self._rows * 5 // 4)

    def _every(self) -> list[_Kept]:
        return [kept for containers in self._groups.values() for kept in containers.values()]

    def learned(self) -> dict[str, History]:
        """Of each group whose history is long enough."""
        found: dict[str, History] = {}
        for group, containers in self._groups.items():
            rows = [kept.together() for kept in containers.values() if kept.rows]
            if sum(map(len, rows)) >= history.LEAST_ROWS:
                found[group] = history.learned(rows)
        return found
