"""A way to the engine that can be closed: the engine itself belongs to others, too."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

ENGINE = "/var/run/docker.sock"


class Passage:
    """A socket of its own that leads to the engine's, as long as it is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: list[socket.socket] = []
        self._door: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"unix://{self._path}"

    def open(self) -> None:
        self._path.unlink(missing_ok=True)
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(self._path))
        door.listen(64)
        self._door = door
        threading.Thread(target=self._let_in, args=(door,), daemon=True).start()

    def close(self) -> None:
        """Nobody gets in, and whoever is inside is cut off."""
        if self._door is not None:
            self._path.unlink()
            _shut(self._door)
            self._door = None
        for one in self._open:
            _shut(one)
        self._open.clear()

    def _let_in(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the door was closed
            while True:
                caller, _ = door.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(ENGINE)
                self._open += [caller, engine]
                for pair in ((caller, engine), (engine, caller)):
                    threading.Thread(target=_carry, args=pair, daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    _shut(target)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
