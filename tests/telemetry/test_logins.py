"""What people do by hand on a host is told apart from what services do."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.records.facts import Program
from producers.sources.docker.programs import Programs

UNSET = str(2**32 - 1)
NAP = ("nap", "-c", "echo; read -r _")


@pytest.fixture
def nap(tmp_path: Path) -> Path:
    """A program that says when it has begun, and waits. No other process runs it: what others
    run with the same parent is told once, of whichever is met first.
    """
    return Path(shutil.copy("/bin/sh", tmp_path / "nap"))


@contextlib.contextmanager
def ended(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def at_a_terminal(nap: Path, login: str) -> Iterator[int]:
    """A process with a terminal of its own, whose audit login is this one."""
    pid, terminal = pty.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            if login != UNSET:
                Path("/proc/self/loginuid").write_text(login)
            os.execv(nap, NAP)
        os._exit(1)
    with ended(pid), os.fdopen(terminal, "rb", 0) as screen:
        assert screen.read(64), "it has begun"
        yield pid


def told(pid: int) -> Program:
    programs = Programs(Path("/"), "host/h", 1 << 20)
    return next(one for _, one in programs.look(10**18, {}) if one.pid == pid)


@pytest.mark.parametrize(("login", "who"), [("1000", "1000"), ("0", "root"), (UNSET, "")])
def test_who_has_logged_in_is_told_of_what_runs_at_a_terminal(
    nap: Path, login: str, who: str
) -> None:
    """The user may be root by then: the login is who it was that came in."""
    with at_a_terminal(nap, login) as pid:
        assert told(pid).login == who


def test_a_job_of_cron_has_a_login_but_no_terminal(nap: Path) -> None:
    """Who stays by a job that is run for him is no person at work."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException):
                os.setsid()
                Path("/proc/self/loginuid").write_text("1000")
                os.dup2(theirs.fileno(), 0)
                os.dup2(theirs.fileno(), 1)
                os.execv(nap, NAP)
            os._exit(1)
        with ended(pid):
            assert ours.recv(64), "it has begun"
            assert told(pid).login == ""
