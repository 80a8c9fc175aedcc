"""``plimsoll respond`` that ends without a goodbye at one written step: a test's launcher.

Arguments: ``before`` or ``after``, and the step at whose writing the process is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable

from models.records.order import Outcome
from models.records.rejected import DeadLetter
from streams.commands import respond
from streams.responders import store
from streams.responders.store import Case, ResponderStore


class DyingStore(ResponderStore):
    moment, step = "", ""

    def keep(self, *cases: Case, tell: Iterable[Outcome] = ()) -> None:
        self._perhaps("before", cases)
        super().keep(*cases, tell=tell)
        self._perhaps("after", cases)

    def receive(
        self,
        place: tuple[str, int, int],
        case: Case | None = None,
        tell: Iterable[Outcome] = (),
        letter: DeadLetter | None = None,
    ) -> None:
        super().receive(place, case, tell, letter)
        self._perhaps("after", () if case is None else (case,))

    def _perhaps(self, moment: str, cases: tuple[Case, ...]) -> None:
        if moment == self.moment and any(case.step == self.step for case in cases):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    DyingStore.moment, DyingStore.step = sys.argv[1:]
    store.ResponderStore = DyingStore  # type: ignore[misc]  # what responders/process.py will build
    respond.command().begin()
