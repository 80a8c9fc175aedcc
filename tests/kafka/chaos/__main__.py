"""``make chaos FAULTS=50 MESSAGES=1000000``: what is lost when everything is killed in turn.

One JSON document, in a file and on standard output. Exit code 1 when something was lost, hung
or differs from what the log calls for; also when plain Faust lost nothing by the same measure,
for then this run has shown nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from infra.kafka import KafkaServer, KafkaUnavailable
from tests.kafka.chaos.control import Control
from tests.kafka.chaos.faults import plan
from tests.kafka.chaos.run import run

STOCK_RUNS: Final = 4
"""Plain Faust does not lose something every time: as many tries as this, at most."""
WIDENED_S: Final = (0.15, 0.5, 0.5, 0.5)
"""By so much the window of a recovery without patience is widened, until one hangs: it takes a
fetch that waits just then.
"""

Say = Callable[[str, float], None]


def main() -> int:
    asked = _asked()
    directory = _folder(asked.keep)
    with _bar() as say:
        try:
            told = _measured(directory, asked, say)
        except KafkaUnavailable as missing:
            sys.stderr.write(f"make chaos needs a Kafka of its own: {missing}\n")
            shutil.rmtree(directory)
            return 2
    well = _well(told, controlled=asked.control)
    if well and asked.keep is None:
        shutil.rmtree(directory)
    else:
        sys.stderr.write(f"logs and all that was written lie in {directory}\n")
    text = json.dumps(told, indent=2) + "\n"
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(text)
    sys.stdout.write(text)
    return int(not well)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--messages", type=int, default=1_000_000, help="frames that are written")
    parser.add_argument("--minutes", type=float, default=40, help="no fault begins after this")
    parser.add_argument("--seed", type=int, default=1, help="which faults come in which order")
    parser.add_argument("--only", default="", help="faults in whose name this word is")
    parser.add_argument("--keep", type=Path, help="a new folder for logs and all that was written")
    parser.add_argument("--out", type=Path, default=Path("build/chaos.json"))
    parser.add_argument("--no-control", dest="control", action="store_false",
                        help="leave plain Faust out")  # fmt: skip  # one option
    return parser.parse_args()


def _measured(directory: Path, asked: argparse.Namespace, say: Say) -> dict[str, Any]:
    until_s = time.monotonic() + asked.minutes * 60
    with KafkaServer(directory / "broker") as broker:
        control = _controlled(broker.bootstrap, directory, say) if asked.control else {}
        faults = plan(asked.faults, asked.seed, asked.only)
        told = run(broker, directory / "line", faults, asked.messages, say, until_s).told()
    return {**told, **control, "seed": asked.seed}


def _controlled(bootstrap: str, directory: Path, say: Say) -> dict[str, Any]:
    """Faust without our measures: what it loses, and what a wider window does to a recovery
    that is not patient.
    """
    runs: list[dict[str, Any]] = []
    while len(runs) < STOCK_RUNS and not any(one["lost"] for one in runs):
        say(f"plain Faust, run {len(runs) + 1}", 0.0)
        runs.append(Control(bootstrap, directory, "stock").run())
    hasty: list[dict[str, Any]] = []
    while len(hasty) < len(WIDENED_S) and not any(one["hung"] for one in hasty):
        say(f"recovery without patience, run {len(hasty) + 1}", 0.0)
        wide_s = WIDENED_S[len(hasty)]
        hasty.append(Control(bootstrap, directory, "impatient", wide_s, calm=True).run())
    return {
        "plain_faust_lost": sum(one["lost"] for one in runs),
        "plain_faust": runs,
        "impatient_recovery_hung": any(one["hung"] for one in hasty),
        "impatient_recovery": hasty,
    }


def _well(told: dict[str, Any], *, controlled: bool) -> bool:
    ours = not told["lost"] and not told["hangs"] and told["state_equal"] and told["alerts_equal"]
    # Whether a recovery without patience hangs depends on the machine: it is told, no more.
    shown = not controlled or told["plain_faust_lost"] > 0
    return bool(ours and told["lost_changelog"]["equal"] and shown)


def _folder(kept: Path | None) -> Path:
    """Of a run that fails it stays, for what happened cannot be had again."""
    if kept is None:
        return Path(tempfile.mkdtemp(prefix="plimsoll-chaos-"))
    kept.mkdir(parents=True)
    return kept


@contextmanager
def _bar() -> Iterator[Say]:
    """On a terminal a bar; else a line for each thing that begins."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, began_s, before = bar.add_task("starts", total=1.0), time.monotonic(), ""

        def say(what: str, share: float) -> None:
            nonlocal before
            bar.update(task, description=what, completed=share)
            if not console.is_terminal and what != before:
                passed_s = time.monotonic() - began_s
                sys.stderr.write(f"{passed_s:6.0f} s  {share:4.0%}  {what}\n")
                sys.stderr.flush()
            before = what

        yield say


if __name__ == "__main__":
    sys.exit(main())
