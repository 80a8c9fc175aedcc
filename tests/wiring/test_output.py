"""Tables of commands: whole in a pipe, readable on a narrow terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from streams.commands.output import show

DIGEST = "c56b59877bae0bf76da8abd013d49ea138979950f3e16e916ffc10e485004e8e"
ROWS = [{"exhibit": number, "kind": "finding", "sha256": DIGEST} for number in range(3)]
LONG = [{"incident": f"inc-{number}", "what": "sent " + "much " * 40} for number in range(2)]


def call(code: str) -> list[str]:
    return [sys.executable, "-c", f"from tests.wiring.test_output import *; {code}"]


def on_a_terminal(code: str, columns: int = 80) -> str:
    """What a person sees of ``show`` in a terminal so wide."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(call(code), stdout=far, env={**environment, "TERM": "xterm"})
    os.close(far)
    said = b""
    while more := _read(near):
        said += more
    assert process.wait(60) == 0
    os.close(near)
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody writes any more
        return b""


def test_wide_columns_are_left_out_where_there_is_no_room() -> None:
    """A digest folded over four lines is read by nobody, and tears the rest apart."""
    code = "show(ROWS, as_json=False, wide=('sha256',))"
    narrow, wide = on_a_terminal(code, 60), on_a_terminal(code, 120)
    assert DIGEST not in narrow
    assert [line.split() for line in narrow.splitlines()[1:3]] == [
        ["0", "finding"], ["1", "finding"],
    ]  # fmt: skip  # as the lines lie
    assert wide.count(DIGEST) == 3


def test_a_row_that_does_not_fit_is_a_block_of_lines() -> None:
    """Eight columns in eighty are eight letters each."""
    said = on_a_terminal("show(LONG, as_json=False)")
    assert [line.split() for line in said.splitlines() if "inc-" in line] == [
        ["incident", "inc-0"], ["incident", "inc-1"],
    ]  # fmt: skip  # as the lines lie
    assert max(map(len, said.splitlines())) <= 80


def test_in_a_pipe_a_row_is_one_line() -> None:
    """Who greps wants all of it, on one line."""
    code = call("show(ROWS, as_json=False, wide=('sha256',))")
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert done.stdout.count(DIGEST) == 3
    assert len(done.stdout.splitlines()) == 4


__all__ = ["LONG", "ROWS", "show"]
