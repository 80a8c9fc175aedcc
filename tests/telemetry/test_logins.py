"""What people do by hand on a host is told apart from what services do."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.records.facts import Program
from producers.sources.docker.programs import Programs

NAP = "import time; print(flush=True); time.sleep(600)"
UNSET = str(2**32 - 1)


@contextlib.contextmanager
def at_a_terminal(login: str) -> Iterator[int]:
    """A process with a terminal of its own, whose audit login is this one."""
    pid, terminal = pty.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            if login != UNSET:
                Path("/proc/self/loginuid").write_text(login)
            os.execv(sys.executable, [sys.executable, "-c", NAP])
        os._exit(1)
    try:
        assert os.read(terminal, 64), "it has begun"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def told(pid: int) -> Program:
    programs = Programs(Path("/"), "host/h", 1 << 20)
    return next(one for _, one in programs.look(10**18, {}) if one.pid == pid)


@pytest.mark.parametrize(("login", "who"), [("1000", "1000"), ("0", "root"), (UNSET, "")])
def test_who_has_logged_in_is_told_of_what_runs_at_a_terminal(login: str, who: str) -> None:
    """The user may be root by then: the login is who it was that came in."""
    with at_a_terminal(login) as pid:
        assert told(pid).login == who


def test_a_job_of_cron_has_a_login_but_no_terminal() -> None:
    """Who stays by a job that is run for him is no person at work."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            os.setsid()
            Path("/proc/self/loginuid").write_text("1000")
            os.dup2(writing, 1)
            os.execv(sys.executable, [sys.executable, "-c", NAP])
        os._exit(1)
    try:
        assert os.read(reading, 1), "it has begun"
        assert told(pid).login == ""
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
