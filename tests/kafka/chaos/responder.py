"""``plimsoll respond`` on simulated containers that outlive it: ``[before|after STEP]``.

With a step given it kills itself when that step is written: just before, or just after.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from streams import responders
from streams.commands import respond
from streams.responders import store
from streams.responders.simulated import Simulated
from streams.settings import load
from tests.docker.respond_and_die import DyingStore

NETWORKS = {"shop": {"address": "172.18.0.2"}}


class Containers:
    """A simulated runtime in a file: every container exists, and runs until it is acted upon.

    ``acts`` counts what was really changed, so that an act done twice shows.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS containers "
            "(subject TEXT PRIMARY KEY, state TEXT, networks TEXT, acts INTEGER)"
        )

    def inspect(self, subject: str) -> dict[str, Any]:
        query = "SELECT state, networks FROM containers WHERE subject = ?"
        found = self._db.execute(query, (subject,)).fetchone()
        state, networks = found or ("running", json.dumps(NETWORKS))
        return {"state": state, "networks": json.loads(networks)}

    def disconnect(self, subject: str) -> None:
        self._change(subject, networks={})

    def reconnect(self, subject: str, state: dict[str, Any]) -> None:
        self._change(subject, networks=state)

    def pause(self, subject: str) -> None:
        self._change(subject, state="paused")

    def unpause(self, subject: str) -> None:
        self._change(subject, state="running")

    def stop(self, subject: str) -> None:
        self._change(subject, state="stopped")

    def start(self, subject: str) -> None:
        self._change(subject, state="running")

    def redeploy(self, subject: str) -> str:
        self.stop(subject)
        return f"{subject[:32]}{'f' * 32}"

    def counters(self, subject: str) -> dict[str, int]:
        return {"sent_bytes": 10}

    def processes(self, subject: str) -> list[dict[str, Any]]:
        return [{"pid": 1}]

    def flows(self, subject: str) -> list[dict[str, Any]]:
        return [{"peer": "198.51.100.9"}] if self.probe(subject) else []

    def files(self, subject: str) -> list[dict[str, Any]]:
        return []

    def probe(self, subject: str) -> bool:
        return bool(self.inspect(subject)["networks"])

    def _change(self, subject: str, **changed: Any) -> None:
        before = self.inspect(subject)
        after = {**before, **changed}
        self._db.execute(
            "INSERT INTO containers VALUES (?, ?, ?, 1) ON CONFLICT (subject) DO UPDATE SET "
            "state = excluded.state, networks = excluded.networks, acts = acts + ?",
            (subject, after["state"], json.dumps(after["networks"]), int(after != before)),
        )


def cut_off(path: Path) -> dict[str, int]:
    """Containers without a network, and how often each was changed."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT subject, acts FROM containers WHERE networks = '{}'"
        return dict(db.execute(query).fetchall())


def main(arguments: list[str]) -> None:
    containers = Containers(load().data_dir / "containers.db")
    responders.platform_of = lambda settings: Simulated(containers)  # its name counts
    if arguments:
        DyingStore.moment, DyingStore.step = arguments
        store.ResponderStore = DyingStore  # type: ignore[misc]  # what responders/process.py will build
    respond.command().begin()


if __name__ == "__main__":
    main(sys.argv[1:])
