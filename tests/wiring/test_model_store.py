"""Files and words that somebody has tampered with: refused, with the reason, before use."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME

from models.detectors.forest import Forest
from models.errors import PlimsollError, UntrustedFile
from models.features import NAMES, SIZE
from models.modelfile import MOST_BYTES, digest, save
from models.records.codec import encode
from models.records.manifest import Manifest, Rehearsal, Stage, Staging
from models.training import fit
from streams import keys
from streams.keys import Role, Signer, TrustFile
from streams.stores import models as store_module
from streams.stores.models import (
    ModelFollower,
    ModelStore,
    Roster,
    announced,
    forest_of,
    header_of,
    opened_record,
    roster_of,
)
from streams.stores.registry import staging

NOW_NS = 1_790_000_000 * 10**9
SECOND_NS = 10**9
TREES = fit(np.random.default_rng(1).normal(0, 1, (600, SIZE)), NAMES, 1)
CONTENT = save(TREES)


def manifest_of(content: bytes = CONTENT, **changed: Any) -> Manifest:
    sha256 = digest(content)
    made = Manifest(
        f"forest-{sha256[:12]}", "default", Stage.CANDIDATE, "isolation-forest", NAMES, sha256,
        len(content), NOW_NS, 0,
    )  # fmt: skip  # as the fields lie
    return replace(made, **changed)


def word(
    model: str, stage: Stage = Stage.ACTIVE, after_s: int = 60, by: str = "trainer"
) -> Staging:
    return staging(
        "default", model, stage, from_ns=NOW_NS + after_s * SECOND_NS, said_ns=NOW_NS, by=by,
        because="a test",
    )  # fmt: skip  # one thought


@dataclass
class Bench:
    """Keys, a folder, and a follower to whom records are handed without a broker."""

    directory: Path

    def __post_init__(self) -> None:
        self.now_ns = NOW_NS
        keys.ensure(self.directory / "keys", NOW_NS)
        self.trust = TrustFile(self.directory / "keys", lambda: self.now_ns)
        self.store = ModelStore(self.directory / "models")
        self.rosters: list[Roster] = []
        self.follower = ModelFollower(
            {"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}, "plimsoll.models", "default",
            store=self.store, trust=self.trust, opened=forest_of,
        )  # fmt: skip  # one thought
        self.follower._changed = self.rosters.append

    def message(self, record: Any, signer: str = "trainer", **changed: Any) -> Any:
        key, value = announced(record, Signer.load(self.directory / "keys", signer))
        fields = {
            "key": key, "value": value, "headers": list(header_of(record).items()),
            "timestamp": (TIMESTAMP_LOG_APPEND_TIME, self.now_ns // 10**6),
        } | changed  # fmt: skip  # a table
        told = {name: (lambda found=found: found) for name, found in fields.items()}
        place = {"topic": lambda: "plimsoll.models", "partition": lambda: 0, "offset": lambda: 0}
        return SimpleNamespace(**told, **place)

    def hear(self, *messages: Any) -> None:
        for message in messages:
            self.follower._take(message)
            self.follower._tell()

    def active(self, after_s: int) -> str:
        """Which model a worker would judge with at that second."""
        begun = [
            m for from_ns, m in self.rosters[-1].active if from_ns <= NOW_NS + after_s * SECOND_NS
        ]
        return begun[-1].trees.uid if begun and begun[-1] is not None else ""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def flipped(name: str) -> bytes:
    """The file with one byte changed in the middle of one array, its checksums made to fit."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as given, zipfile.ZipFile(target, "w") as made:
        for entry in given.infolist():
            body = bytearray(given.read(entry))
            if entry.filename == f"{name}.npy":
                body[-max(1, (len(body) - 128) // 2)] ^= 0x40
            made.writestr(entry.filename, bytes(body))
    return target.getvalue()


ARRAYS = ("format", "features", "feature", "threshold", "leaf", "usual", "ranks", "expected")


@pytest.mark.parametrize("name", ARRAYS)
def test_one_byte_changed_in_any_array_is_noticed_by_the_hash(bench: Bench, name: str) -> None:
    """Most such changes leave a forest that is well-formed, and judges otherwise."""
    honest = manifest_of()
    bench.store.save(CONTENT)
    bench.store.path(honest.sha256).write_bytes(flipped(name))

    with pytest.raises(UntrustedFile, match="was changed"):
        bench.store.load(honest.sha256)
    with pytest.raises(UntrustedFile, match="SHA-256"):
        forest_of(honest, flipped(name))


def bomb() -> bytes:
    """A few kilobytes that unpack to more than memory should give."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", b"\0" * (MOST_BYTES // 4))
    return target.getvalue()


def lying_bomb() -> bytes:
    """The same, with a directory that says it is small."""
    data = bytearray(bomb())
    size = (MOST_BYTES // 4).to_bytes(4, "little")
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = (100).to_bytes(4, "little")
    return bytes(data)


def future() -> bytes:
    """What a later release may write."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as given, zipfile.ZipFile(target, "w") as made:
        for entry in given.infolist():
            body = io.BytesIO(given.read(entry))
            if entry.filename == "format.npy":
                body = io.BytesIO()
                np.lib.format.write_array(body, np.array(2), allow_pickle=False)
            made.writestr(entry.filename, body.getvalue())
    return target.getvalue()


def with_trees(**changed: Any) -> Callable[[], bytes]:
    return lambda: save(replace(TREES, **changed))


FORGERIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated": (lambda: CONTENT[:-200], "not a model file"),
    "cut to nothing": (lambda: b"", "not a model file"),
    "a zip bomb": (bomb, "unpacks to more than"),
    "a zip bomb that lies": (lying_bomb, "not a model file"),
    "a future format": (future, "another format than 1: train anew"),
    "NaN thresholds": (
        with_trees(threshold=np.full_like(TREES.threshold, np.nan)), "threshold is no number",
    ),
    "thresholds of minus infinity": (
        with_trees(threshold=np.full_like(TREES.threshold, -np.inf)), "threshold is no number",
    ),
    "thresholds so far apart that they overflow": (
        with_trees(threshold=np.where(TREES.threshold > 0, np.float32(3e38), np.float32(-3e38))),
        "out of reach",
    ),
    "endless paths": (with_trees(leaf=TREES.leaf + np.nan), "leaf lies outside"),
    "other shapes": (with_trees(leaf=TREES.leaf[:, :-1]), "trees are not complete"),
    "no trees": (with_trees(leaf=TREES.leaf[:0]), "no, or too many, trees"),
    "doubles for singles": (
        with_trees(threshold=TREES.threshold.astype(np.float64)), "does not fit its trees",
    ),
    "a feature that is not there": (
        with_trees(feature=np.full_like(TREES.feature, SIZE)), "names no feature",
    ),
}  # fmt: skip  # a table


@pytest.mark.parametrize("what", FORGERIES)
def test_a_file_that_its_manifest_vouches_for_is_still_checked(bench: Bench, what: str) -> None:
    """A trainer's key that was stolen must not crash, stall or fill every worker."""
    make, why = FORGERIES[what]
    content = make()
    honest, forged = manifest_of(), manifest_of(content)
    bench.store.save(CONTENT)
    bench.store.save(content)
    bench.hear(bench.message(honest), bench.message(word(honest.uid)))

    with pytest.raises(UntrustedFile, match=why):
        forest_of(forged, content)
    bench.hear(bench.message(forged), bench.message(word(forged.uid, after_s=90)))

    assert bench.active(100) == honest.uid


@pytest.mark.parametrize("features", [NAMES[::-1], NAMES[:-1], (*NAMES, "another")])
def test_a_model_of_other_features_is_refused(features: tuple[str, ...]) -> None:
    """Columns in another order score nonsense, quietly."""
    with pytest.raises(UntrustedFile, match="train anew"):
        forest_of(manifest_of(features=features), CONTENT)


def test_a_link_a_pipe_or_a_huge_file_is_not_even_read(bench: Bench, tmp_path: Path) -> None:
    """A link could point at a secret, a pipe never ends."""
    honest = manifest_of()
    bench.store.save(CONTENT)
    path = bench.store.path(honest.sha256)
    elsewhere = tmp_path / "elsewhere.npz"
    path.rename(elsewhere)

    path.symlink_to(elsewhere)
    with pytest.raises(UntrustedFile, match="is a link"):
        bench.store.load(honest.sha256)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UntrustedFile, match="no plain file"):
        bench.store.load(honest.sha256)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UntrustedFile, match="not read"):
        bench.store.load(honest.sha256)
    path.unlink()
    with pytest.raises(UntrustedFile, match="copy it there"):
        bench.store.load(honest.sha256)


# ---- words --------------------------------------------------------------------------------


def rehearsal(by: str) -> Rehearsal:
    return Rehearsal("r", "default", "m", "", 1.0, NOW_NS, NOW_NS, NOW_NS, by, 1, 0, 0)


@pytest.mark.parametrize(
    ("record", "signer", "why"),
    [
        (manifest_of(), "operator", "needed: trainer"),
        (manifest_of(), "governor", "needed: trainer"),
        (word("m", by="governor"), "governor", "needed: trainer or operator"),
        (rehearsal("governor"), "governor", "needed: trainer or operator"),
        (word("m", by="operator"), "trainer", "speaks with the key of"),
    ],
)
def test_another_roles_key_or_name_counts_for_nothing(
    bench: Bench, record: Any, signer: str, why: str
) -> None:
    """The governor's key orders; it must not choose what judges."""
    with pytest.raises(PlimsollError, match=why):
        opened_record(bench.message(record, signer), bench.trust)


@pytest.mark.parametrize("said_by", ["trainer", "operator"])
def test_trainers_and_operators_may_stage(bench: Bench, said_by: str) -> None:
    said = word("m", by=said_by)

    assert opened_record(bench.message(said, said_by), bench.trust) == said


def test_a_changed_payload_a_foreign_key_or_another_place_is_refused(bench: Bench) -> None:
    """Each is how one would slip a model in with no key at all."""
    honest = manifest_of()
    value = encode(
        replace(
            Signer.load(bench.directory / "keys", "trainer").sign(encode(honest)),
            payload=encode(replace(honest, sha256="0" * 64)),
        )
    )
    stranger = bench.directory / "strange"
    keys.create(stranger, "trainer", Role.TRAINER, NOW_NS)
    _, foreign = announced(honest, Signer.load(stranger, "trainer"))

    for changed, why in (
        ({"value": value}, "signature is not of key"),
        ({"value": foreign}, "is not in trusted.json"),
        ({"value": b"{}"}, "format version"),
        ({"key": b"default/another"}, "its key is not"),
        ({"headers": [("plimsoll-kind", b"staging")]}, "missing|absent|model"),
        ({"headers": [("plimsoll-kind", b"novel")]}, "is none of"),
    ):
        with pytest.raises(PlimsollError, match=why):
            opened_record(bench.message(honest, **changed), bench.trust)


def test_a_replaced_key_vouches_for_what_it_signed_where_the_log_dates_records(
    bench: Bench,
) -> None:
    """A rotation must not retire every model at the next restart; nor may a key that was
    taken away be used by dating a record back.
    """
    old = bench.message(word("m"))
    dated_back = bench.message(word("m"), timestamp=(TIMESTAMP_CREATE_TIME, NOW_NS // 10**6))
    keys.rotate(bench.directory / "keys", "trainer", NOW_NS + 1, overlap_s=0.0)
    bench.now_ns = NOW_NS + 3600 * SECOND_NS

    assert opened_record(old, bench.trust) == word("m")
    with pytest.raises(PlimsollError, match="does not count"):
        opened_record(dated_back, bench.trust)


def test_a_worker_hears_words_in_any_order(bench: Bench) -> None:
    """The word may come before the manifest it is about."""
    honest = manifest_of()
    bench.store.save(CONTENT)

    bench.hear(
        bench.message(word(honest.uid, Stage.RETIRED, after_s=90)),
        bench.message(word(honest.uid, after_s=60)),
        bench.message(honest),
    )

    assert [bench.active(s) for s in (59, 60, 89, 90)] == ["", honest.uid, honest.uid, ""]
    assert isinstance(bench.rosters[-1].active[0][1], Forest)


def test_a_forest_of_an_images_own_stands_beside_the_fleets(bench: Bench) -> None:
    """Its turns are its own: promoting it retires nobody else, and its end brings nobody back."""
    fleet, own = manifest_of(), replace(manifest_of(), uid="forest-own", lineage="shop/web")
    bench.store.save(CONTENT)

    bench.hear(
        bench.message(fleet), bench.message(own), bench.message(word(fleet.uid, after_s=30)),
        bench.message(word(own.uid, after_s=60)),
        bench.message(word(own.uid, Stage.RETIRED, after_s=90)),
    )  # fmt: skip  # as they are said

    assert [bench.active(s) for s in (29, 30, 60, 90)] == ["", fleet.uid, fleet.uid, fleet.uid]
    models = bench.rosters[-1].models
    served = [models.active(NOW_NS + s * SECOND_NS, "shop/web") for s in (30, 60, 90)]
    assert [one.trees.uid for one in served if one] == [fleet.uid, own.uid, fleet.uid]
    register = bench.follower._register
    assert register.schedule().stages == {fleet.uid: Stage.ACTIVE}
    assert register.schedule(lineage="shop/web").stages == {own.uid: Stage.RETIRED}
    assert roster_of(register, bench.store).own.keys() == {"shop/web"}


def test_a_model_that_breaks_the_opener_does_not_end_the_thread(bench: Bench) -> None:
    """A worker whose thread has died would never hear of another model."""
    honest = manifest_of()
    bench.store.save(CONTENT)
    calls: list[str] = []

    def breaks_at_first(manifest: Manifest, content: bytes) -> Forest:
        calls.append(manifest.uid)
        if len(calls) == 1:
            raise ZeroDivisionError
        return forest_of(manifest, content)

    bench.follower._opened = breaks_at_first
    bench.hear(bench.message(honest), bench.message(word(honest.uid)))
    assert bench.active(60) == ""

    bench.hear(bench.message(word("unknown", after_s=70)))
    assert bench.active(60) == honest.uid


def test_a_word_that_the_log_took_in_after_its_time_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay would judge that time with it, and the worker has judged without."""
    warned: list[str] = []
    monkeypatch.setattr(store_module.log, "warning", lambda what, **_: warned.append(what))
    late = (TIMESTAMP_LOG_APPEND_TIME, (NOW_NS + 61 * SECOND_NS) // 10**6)

    bench.hear(bench.message(word("m")))
    assert warned == []
    bench.hear(bench.message(word("m"), timestamp=late))
    assert warned == ["model word came late"]


def test_the_file_of_a_candidate_is_not_even_opened(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Announcing is no way to make every worker read something."""
    opened: list[str] = []
    monkeypatch.setattr(store_module.ModelStore, "load", lambda _self, sha: opened.append(sha))

    bench.hear(bench.message(manifest_of()))

    assert opened == []
