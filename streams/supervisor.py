"""Keeps the parts of one machine running: starts them, prefixes what they say, starts again
what died, and stops all in reverse order.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

USAGE: Final = 2
"""A part that ends so was called or configured wrongly: starting it again can't help."""

_TERMINAL: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
"""Codes that move cursors: what containers are called must not steer this terminal."""

Say = Callable[[str, str], None]
"""Called with a part's name and one line that it said, or that is about it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A child process: its name and command line."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: the first and longest pause before a restart, and how long a stop may take."""

    restart_after_s: float = 1.0
    restart_after_most_s: float = 30.0
    stop_within_s: float = 20.0


@dataclass(slots=True)
class Supervisor:
    """Runs ``parts``, in their order; ``say`` hears every line.

    :meth:`run` returns 0 when it was asked to stop and every part ended in time; 1 when one
    had to be killed; 2 when one can't be started as it is configured (all are stopped then).
    """

    parts: Sequence[Part]
    say: Say
    patience: Patience = field(default_factory=Patience)
    _running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _code: int = 0

    def stop(self) -> None:
        """Ask all parts to end; twice is the same as once."""
        self._asked.set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        keepers = []
        try:
            for part in self.parts:
                started = asyncio.Event()
                keepers.append(asyncio.create_task(self._keep(part, started)))
                await started.wait()
            await self._asked.wait()
            await self._stop_all()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            await asyncio.gather(*keepers)
        return self._code

    async def _keep(self, part: Part, started: asyncio.Event) -> None:
        """Start a part, and again whenever it ends, until all are asked to stop."""
        loop, pause_s = asyncio.get_running_loop(), self.patience.restart_after_s
        while not self._asked.is_set():
            began_s = loop.time()
            code = await self._lived(part, started)
            if self._asked.is_set():
                return
            if code == USAGE:
                self._code = USAGE
                self.say(part.name, "can't run as it is called or configured: stopping all parts")
                self.stop()
                return
            if loop.time() - began_s > self.patience.restart_after_most_s:
                pause_s = self.patience.restart_after_s
            self.say(part.name, f"{_ended(code)}; starts again in {pause_s:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause_s)
            pause_s = min(pause_s * 2, self.patience.restart_after_most_s)

    async def _lived(self, part: Part, started: asyncio.Event) -> int:
        """One life of a part, from start to exit code."""
        try:
            child = await asyncio.create_subprocess_exec(
                *part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone: the order of stopping is ours
                limit=1 << 20,
            )
        except OSError as problem:
            self.say(part.name, f"{part.command[0]}: {problem.strerror}")
            return USAGE
        finally:
            started.set()
        self._running[part.name] = child
        self.say(part.name, f"started, process {child.pid}")
        if self._asked.is_set():  # asked to stop while it was starting: nobody else ends it
            _signal(child, signal.SIGKILL)
        await self._relay(part.name, child)
        code = await child.wait()
        del self._running[part.name]
        return code

    async def _relay(self, name: str, child: asyncio.subprocess.Process) -> None:
        lines = child.stdout
        assert lines is not None
        while True:
            try:
                line = await lines.readline()
            except ValueError:  # a line longer than the limit: what is read so far is gone
                self.say(name, "(a line of more than 1 MB was left out)")
                continue
            if not line:
                return
            said = _TERMINAL.sub("", line.decode(errors="replace")).rstrip()
            if said:
                self.say(name, said)

    async def _stop_all(self) -> None:
        """In reverse order, each after the one before has ended: what writes ends first."""
        for part in reversed(self.parts):
            child = self._running.get(part.name)
            if child is None:
                continue
            _signal(child, signal.SIGTERM)
            try:
                await asyncio.wait_for(child.wait(), self.patience.stop_within_s)
                self.say(part.name, "stopped")
            except TimeoutError:
                self._code = self._code or 1
                self.say(part.name, f"did not stop in {self.patience.stop_within_s:g} s: killed")
                _signal(child, signal.SIGKILL)
                await child.wait()


def _signal(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(number)


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
