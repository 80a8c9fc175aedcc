"""What the host sees of a container's processes and network, without asking the engine."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROC: Final = Path("/proc")
_CLONE_NEWNET: Final = 0x40000000
_LISTEN: Final = "0A"
_TCP_STATES: Final = (
    "", "established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2", "time-wait",
    "close", "close-wait", "last-ack", "listen", "closing",
)  # fmt: skip  # a short table


@dataclass(frozen=True, slots=True)
class Traffic:
    received_bytes: int
    received_packets: int
    sent_bytes: int
    sent_packets: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of knocking; ``detail`` names the error where nothing answered."""

    answered: bool
    detail: str


def sees(pid: int, subject: str) -> bool:
    """Whether this process id, as we see it, belongs to the container. It does not when we
    run in a process namespace of our own, or when the engine is on another machine.
    """
    with suppress(OSError):
        return subject in (PROC / str(pid) / "cgroup").read_text()
    return False


def pids(subject: str) -> Iterator[int]:
    """Every process of the container."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and sees(int(entry.name), subject):
            yield int(entry.name)


def process(pid: int) -> dict[str, Any]:
    """One process, as far as it lets itself be read."""
    folder = PROC / str(pid)
    found: dict[str, Any] = {"pid": pid}
    with suppress(OSError):
        found["executable"] = str((folder / "exe").readlink())
    with suppress(OSError):
        line = (folder / "cmdline").read_bytes().rstrip(b"\0")
        found["arguments"] = line.decode(errors="replace").split("\0")
    with suppress(OSError):
        status = dict(
            row.split(":\t", 1)
            for row in (folder / "status").read_text().splitlines()
            if ":\t" in row
        )
        found["parent"] = int(status.get("PPid", "0"))
        found["user"] = int(status.get("Uid", "0").split()[0])
        found["state"] = status.get("State", "")
    return found


def cpu_ticks(subject: str) -> int:
    """CPU time that the container's processes have used, in clock ticks."""
    total = 0
    for pid in pids(subject):
        with suppress(OSError, IndexError, ValueError):
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total


def interfaces(pid: int) -> dict[str, Traffic]:
    """The network interfaces of the process's namespace, but loopback."""
    found = {}
    for line in (PROC / str(pid) / "net/dev").read_text().splitlines()[2:]:
        name, _, figures = line.partition(":")
        if name.strip() != "lo":
            numbers = [int(figure) for figure in figures.split()]
            found[name.strip()] = Traffic(numbers[0], numbers[1], numbers[8], numbers[9])
    return found


def sockets(pid: int) -> Iterator[dict[str, Any]]:
    """TCP and UDP sockets of the process's network namespace."""
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        with suppress(OSError):
            for line in (PROC / str(pid) / "net" / protocol).read_text().splitlines()[1:]:
                _, local, remote, state = line.split()[:4]
                yield {
                    "protocol": protocol,
                    "local": _address(local),
                    "remote": _address(remote),
                    "state": _TCP_STATES[int(state, 16)] if protocol.startswith("tcp") else "",
                }


def listening(pid: int) -> list[int]:
    """TCP ports that the namespace accepts connections on."""
    ports = {
        int(found["local"].rpartition(":")[2])
        for found in sockets(pid)
        if found["state"] == "listen"
    }
    return sorted(ports)


def knock(address: str, port: int, timeout_s: float) -> Answer:
    """Try to reach an address over TCP; a refusal is an answer too."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(timeout_s)
        try:
            one.connect((address, port))
        except ConnectionRefusedError:
            return Answer(answered=True, detail=f"{address}:{port} refused")
        except OSError as silence:
            return Answer(answered=False, detail=str(silence))
    return Answer(answered=True, detail=f"{address}:{port} accepted")


def knock_from(pid: int, address: str, port: int, timeout_s: float) -> Answer:
    """The same from inside of the process's network namespace.

    A thread of its own enters it: a namespace belongs to a thread, and this one ends.
    Raises: OSError when the namespace may not be entered.
    """
    answers: list[Answer | OSError] = []

    def inside() -> None:
        try:
            _enter_network(pid)
            answers.append(knock(address, port, timeout_s))
        except OSError as refusal:
            answers.append(refusal)

    thread = threading.Thread(target=inside, name="probe")
    thread.start()
    thread.join()
    if isinstance(answers[0], OSError):
        raise answers[0]
    return answers[0]


def _enter_network(pid: int) -> None:
    """setns(2); Python has it from 3.12 on."""
    handle = os.open(PROC / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}")
    finally:
        os.close(handle)


def settle(seconds: float) -> None:
    """Between two looks at something that should stand still."""
    time.sleep(seconds)


def _address(field: str) -> str:
    """``0100007F:1F90`` → ``127.0.0.1:8080``; words of four bytes, each in host order."""
    packed, _, port = field.partition(":")
    raw = bytes.fromhex(packed)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    host = ipaddress.ip_address(words)
    shown = f"[{host}]" if host.version == 6 else str(host)
    return f"{shown}:{int(port, 16)}"
