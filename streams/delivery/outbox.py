"""What agents send on: handed to the producer at once, waited for before the next commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import faust

Header = tuple[str, bytes]

_PRUNE_AT = 4096


class Outbox:
    """Sends without waiting; an offset is committed only after all of it is durable.

    An agent sends first and keeps its new state afterwards: then no state is ever durable
    whose outputs are not. A send that fails fails the commit, and that ends the worker: the
    events are read again.
    """

    def __init__(self, app: faust.App) -> None:
        self._app = app
        self._owed: list[asyncio.Future[object]] = []

    @property
    def owed(self) -> int:
        """Records that the broker has not confirmed."""
        return sum(not one.done() for one in self._owed)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        """Hand one record over; without a partition, murmur2 over the key chooses it."""
        handed = await self._app.producer.send(
            topic, key, value, partition, None, list(headers) or None
        )
        self._owed.append(asyncio.ensure_future(_waited(handed)))
        if len(self._owed) >= _PRUNE_AT:
            self._owed = [one for one in self._owed if not _well_done(one)]

    async def delivered(self) -> None:
        """Return once the broker has all that was sent so far.

        Raises: what the producer raised for the first record that it could not deliver;
        that record stays owed, so that no later commit can pass over it.
        """
        owed, self._owed = self._owed, []
        try:
            await asyncio.gather(*owed)
        except BaseException:
            self._owed = owed + self._owed
            raise


async def _waited(handed: Awaitable[object]) -> object:
    return await handed


def _well_done(one: asyncio.Future[object]) -> bool:
    return one.done() and not one.cancelled() and one.exception() is None
