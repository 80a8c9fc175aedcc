"""The supervisor, over real child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from streams.supervisor import Part, Patience, Supervisor

QUICK = Patience(restart_after_s=0.05, restart_after_most_s=0.1, stop_within_s=10.0)
LASTS = "import time, sys; print('ready', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True); time.sleep(60)"
)


def python(name: str, program: str) -> Part:
    return Part(name, (sys.executable, "-c", program))


class Told:
    """Everything that was said; acts once a line appears."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.when: dict[Callable[[list[tuple[str, str]]], bool], Callable[[], None]] = {}

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        for condition, act in list(self.when.items()):
            if condition(self.lines):
                del self.when[condition]
                act()

    def once(self, line: str, act: Callable[[], None], *, times: int = 1) -> None:
        self.when[lambda lines: sum(line in said for _, said in lines) >= times] = act

    def about(self, text: str) -> list[str]:
        return [name for name, line in self.lines if text in line]


def run(supervisor: Supervisor) -> int:
    return asyncio.run(asyncio.wait_for(supervisor.run(), 30))


def test_parts_start_in_order_and_stop_in_reverse() -> None:
    """What reads is there before what writes, and outlives it: nothing is left half-way."""
    told = Told()
    supervisor = Supervisor([python(n, LASTS) for n in ("judge", "gather", "collect")], told, QUICK)
    told.once("ready", supervisor.stop, times=3)

    assert run(supervisor) == 0
    assert told.about("started") == ["judge", "gather", "collect"]
    assert told.about("stopped") == ["collect", "gather", "judge"]


def test_a_part_that_dies_is_named_with_its_reason_and_started_again(tmp_path: Path) -> None:
    """One crash must not take the others along, nor go unseen."""
    mark = tmp_path / "second"
    program = (
        f"import pathlib, sys; m = pathlib.Path({str(mark)!r})\n"
        f"if not m.exists(): m.touch(); print('out of luck'); sys.exit(3)\n{LASTS}"
    )
    told = Told()
    supervisor = Supervisor([python("calm", LASTS), python("rash", program)], told, QUICK)
    told.once("ready", supervisor.stop, times=2)

    assert run(supervisor) == 0
    assert ("rash", "out of luck") in told.lines
    assert told.about("ended with exit code 3; starts again in 0.05 s") == ["rash"]
    assert told.about("started") == ["calm", "rash", "rash"]


def test_a_killed_part_is_told_by_its_signal() -> None:
    """The out-of-memory killer leaves no other trace."""
    told = Told()
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    supervisor = Supervisor([python("worker", program)], told, QUICK)
    told.once("was ended by SIGKILL", supervisor.stop)

    assert run(supervisor) == 0


def test_pauses_grow_up_to_their_limit() -> None:
    """A part that can't live must not eat a core by dying."""
    told = Told()
    patience = Patience(restart_after_s=0.4, restart_after_most_s=1.6, stop_within_s=10.0)
    # Ends within its longest pause on the slowest machine: else it would have lived.
    supervisor = Supervisor([Part("worker", ("false",))], told, patience)
    told.once("starts again", supervisor.stop, times=4)

    run(supervisor)

    pauses = [line.split(" in ")[1] for _, line in told.lines if "starts again" in line]
    assert pauses == ["0.4 s", "0.8 s", "1.6 s", "1.6 s"]


def test_a_part_that_is_configured_wrongly_stops_all_with_code_2() -> None:
    """Starting it again would only hide the one line that says what is wrong."""
    told = Told()
    supervisor = Supervisor(
        [python("judge", LASTS), python("gather", "raise SystemExit(2)")], told, QUICK
    )

    assert run(supervisor) == 2
    assert told.about("can't run") == ["gather"]
    assert told.about("stopped") == ["judge"]


def test_a_command_that_is_not_there_stops_all_with_code_2() -> None:
    """So does one that was never installed."""
    told = Told()

    assert run(Supervisor([Part("gather", ("/nowhere/plimsoll",))], told, QUICK)) == 2
    assert told.about("/nowhere/plimsoll: No such file") == ["gather"]


def test_what_ignores_the_end_is_killed_and_said() -> None:
    """Ctrl-C always ends the whole, and the exit code tells how."""
    told = Told()
    supervisor = Supervisor([python("worker", STUBBORN)], told, Patience(stop_within_s=0.2))
    told.once("ready", supervisor.stop)

    assert run(supervisor) == 1
    assert told.about("killed") == ["worker"]


def test_ctrl_c_and_sigterm_stop_all() -> None:
    """A terminal sends the one, systemd the other."""
    for number in (signal.SIGINT, signal.SIGTERM):
        told = Told()
        told.once("ready", lambda number=number: os.kill(os.getpid(), number))  # type: ignore[misc]  # bound now

        assert run(Supervisor([python("worker", LASTS)], told, QUICK)) == 0
        assert told.about("stopped") == ["worker"]


def test_what_a_part_says_cannot_steer_the_terminal() -> None:
    """Names of containers are an attacker's to choose."""
    told = Told()
    program = "import time; print('a\\x1b[2Jb\\x07', flush=True); time.sleep(60)"
    supervisor = Supervisor([python("worker", program)], told, QUICK)
    told.once("ab", supervisor.stop)

    assert run(supervisor) == 0
    assert ("worker", "ab") in told.lines
