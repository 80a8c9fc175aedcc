"""Files that left the golden image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.records.facts import (
    Change,
    FileChange,
    Program,
)
from producers.sources.docker import watch
from producers.sources.docker.identity import Known, known_of
from producers.sources.docker.layers import layers_of
from tests.docker.collecting import Collecting, sh
from tests.fixtures_docker import TestEngine


def test_a_binary_replaced_with_its_size_and_time_kept_is_seen(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """``docker diff`` shows nothing then."""
    container = docker_engine.run(image)
    sh(
        container,
        "cp /bin/tool /tmp/kept; chmod +x /tmp/kept; touch -d '2020-01-01 00:00' /tmp/kept",
    )

    def told() -> list[FileChange]:
        return [one for one in collecting.of(container.id, FileChange) if one.path == "/tmp/kept"]

    collecting.until(told, "the file")
    sh(container, "printf '#!/bin/sh\\nexec sleep 9999\\n' >/tmp/kept; "
                  "touch -d '2020-01-01 00:00' /tmp/kept")  # fmt: skip  # two lines

    collecting.until(lambda: len({one.sha256 for one in told()}) == 2, "the other content")
    first, last = told()[0], told()[-1]
    assert (first.size_bytes, last.change) == (last.size_bytes, Change.CHANGED)
    assert last.changed_ns > first.changed_ns


def test_image_files_that_change_or_vanish_are_told_and_the_engines_own_are_not(
    docker_engine: TestEngine, image: str, collecting: Collecting
) -> None:
    """Whiteouts are how an overlay says "deleted"; hosts and resolv.conf are nobody's act."""
    container = docker_engine.run(image, init=True)
    sh(container, "echo x >>/bin/tool; rm /etc/passwd; mkdir /var/new; echo y >/var/new/data")

    def told() -> dict[str, Change]:
        return {one.path: one.change for one in collecting.of(container.id, FileChange)}

    collecting.until(lambda: len(told()) >= 3, "three changes")
    assert told() == {
        "/bin/tool": Change.CHANGED, "/etc/passwd": Change.DELETED, "/var/new/data": Change.ADDED,
    }  # fmt: skip  # a table
    sh(container, "rm /var/new/data")
    collecting.until(lambda: told()["/var/new/data"] is Change.DELETED, "it was removed again")


def test_layers_that_the_engine_does_not_tell_are_found_by_the_mounts(
    docker_engine: TestEngine, image: str, collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker with containerd's image store names none: without them no file and no dropped
    program would be told from the image's own.
    """
    told = docker_engine.run(image)
    layers = told.attrs["GraphDriver"]["Data"]
    upper, lowers = layers_of(Path("/"), told.attrs["State"]["Pid"])
    assert upper == Path(layers["UpperDir"])
    assert [one.resolve() for one in lowers] == list(map(Path, layers["LowerDir"].split(":")))

    def without(*given: Any) -> Known:
        return replace(known_of(*given), upper=None, lowers=())

    monkeypatch.setattr(watch, "known_of", without)
    container = docker_engine.run(image)
    sh(container, "mkdir /tmp/x; cp /bin/busybox /tmp/x/busybox; rm /bin/tool")
    container.exec_run(["/tmp/x/busybox", "sleep", "1000"], detach=True)

    def found() -> dict[str, Change]:
        return {one.path: one.change for one in collecting.of(container.id, FileChange)}

    def programs() -> dict[str, bool | None]:
        return {one.executable: one.in_image for one in collecting.of(container.id, Program)}

    collecting.until(lambda: len(found()) == 2, "two changes")
    assert found() == {"/tmp/x/busybox": Change.ADDED, "/bin/tool": Change.DELETED}
    collecting.until(lambda: len(programs()) == 2, "two programs")
    assert programs() == {"/bin/busybox": True, "/tmp/x/busybox": False}
