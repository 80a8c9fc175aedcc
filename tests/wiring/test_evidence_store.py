"""The evidence store: whole or not at all, named by content, never in the way."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from models.errors import BrokenChain
from streams.stores.evidence import EvidenceStore, folder_of


def test_what_is_kept_is_read_back_and_twice_is_once(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path)
    kept = store.keep("default", "inc-1", b"flows")
    assert store.keep("default", "inc-1", b"flows") == kept
    assert store.read(kept.location) == b"flows"
    assert [path.name for path in (tmp_path / "default-inc-1").iterdir()] == [kept.sha256]


def test_a_changed_piece_is_found_out(tmp_path: Path) -> None:
    """A file that no longer fits its name proves nothing but the change."""
    store = EvidenceStore(tmp_path)
    kept = store.keep("default", "inc-1", b"flows")
    (tmp_path / kept.location).write_bytes(b"other")
    with pytest.raises(BrokenChain, match="changed"):
        store.read(kept.location)
    assert store.keep("default", "inc-1", b"flows").problem == ""
    assert store.read(kept.location) == b"flows"


@pytest.mark.parametrize("place", ["../x/" + "0" * 64, "x", "", "/etc/passwd", "a/b/" + "0" * 64])
def test_no_place_outside_of_the_store_is_read(tmp_path: Path, place: str) -> None:
    """Locations come from topics, and whoever writes there might point anywhere."""
    with pytest.raises(BrokenChain):
        EvidenceStore(tmp_path).read(place)


def test_incidents_get_folders_of_their_own_whatever_their_names(tmp_path: Path) -> None:
    names = ["a/b", "a_b", "../..", "a" * 600, "ä", "a b"]
    folders = {folder_of("default", name) for name in names}
    assert len(folders) == len(names)
    assert all(Path(folder).name == folder and len(folder) < 200 for folder in folders)


def test_limits_are_said_and_nothing_is_written(tmp_path: Path) -> None:
    """One incident must not fill the disk on which the next one needs room."""
    store = EvidenceStore(tmp_path, most_bytes=10, incident_most_bytes=15)
    assert "at most 10" in store.keep("default", "inc", b"x" * 11).problem
    assert store.keep("default", "inc", b"x" * 10).problem == ""
    assert "at most 15" in store.keep("default", "inc", b"y" * 10).problem
    assert store.keep("default", "other", b"y" * 10).problem == ""


def test_the_last_of_a_disk_is_not_for_evidence(tmp_path: Path) -> None:
    """The responder writes what it is about to do on the same disk, and must never be unable to."""
    free = shutil.disk_usage(tmp_path).free
    greedy = EvidenceStore(tmp_path, spare_bytes=2 * free)
    assert "are free on its disk" in greedy.keep("default", "inc-1", b"flows").problem
    assert list((tmp_path / "default-inc-1").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_no_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evidence lost is told; the isolation that waits for it goes on."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    kept = EvidenceStore(tmp_path).keep("default", "inc-1", b"flows")
    assert "No space left" in kept.problem
    assert kept.location == ""
    assert list((tmp_path / "default-inc-1").iterdir()) == []
