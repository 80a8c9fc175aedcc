"""An agent that ends the worker when its body fails.

Stock Faust acknowledges the event whose processing raised and starts the agent anew: the
record is gone. What cannot be used leaves by the dead letters; any other exception is a
fault of ours, and after it nothing may be acknowledged or written.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import faust
import structlog

log = structlog.get_logger(__name__)


class StrictAgent(faust.Agent):
    """Runs one actor; a body that raises crashes the app, so that the process ends non-zero."""

    async def _execute_actor(self, coro: Awaitable[Any], aref: Any) -> None:
        await super()._execute_actor(self._guarded(coro), aref)

    async def _guarded(self, coro: Awaitable[Any]) -> None:
        try:
            await coro
        except Exception as problem:
            log.critical(
                "the agent failed: its events stay unacknowledged and are read again after a "
                "restart; report this with the trace below, it is a fault of Plimsoll's",
                agent=self.name, exc_info=problem,
            )  # fmt: skip  # one line of fields
            await self.app.crash(problem)
            raise
