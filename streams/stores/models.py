"""Model files by their hash, and what the models topic says of them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from models.contract import ONLY_PARTITION
from models.errors import BrokerUnreachable, MalformedRecord, PlimsollError, UntrustedFile
from models.records.codec import decode, encode
from models.records.manifest import Manifest, Stage
from models.records.signed import Signed
from streams.keys import Role, Signer, Trust

log = structlog.get_logger(__name__)

_CATCH_UP_S: Final = 30.0
_POLL_S: Final = 0.5


class ModelStore:
    """A directory of model files, each under the SHA-256 of its bytes: none ever changes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, content: bytes) -> str:
        """Keep the bytes; their hash, under which they are found again."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
        return digest

    def load(self, digest: str) -> bytes:
        """The bytes of that hash. Raises: UntrustedFile when they are gone or others."""
        try:
            content = self._path(digest).read_bytes()
        except OSError as problem:
            raise UntrustedFile(
                f"model file {self._path(digest)}: {problem.strerror}; copy it there, or point "
                "models_dir at where the trainer writes"
            ) from problem
        if hashlib.sha256(content).hexdigest() != digest:
            raise UntrustedFile(f"model file {self._path(digest)} was changed: nothing of it used")
        return content

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.npz"


def announced(manifest: Manifest, signer: Signer) -> tuple[bytes, bytes]:
    """Key and value of a model's record on the models topic."""
    key = f"{manifest.scope}/{manifest.uid}".encode()
    return key, encode(signer.sign(encode(manifest)))


class ModelFollower:
    """The active models of one scope, kept up with the topic by a thread of its own.

    ``opened`` turns manifest and file into a model, or raises UntrustedFile. A model that
    is forged, damaged or of another shape is left out, with a line that says why; what was
    active before stays.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str, scope: str, *, store: ModelStore, trust: Trust,
        opened: Callable[[Manifest, bytes], Any],
    ) -> None:  # fmt: skip  # two lines read better than seven
        config = {**kafka, "group.id": "plimsoll-models", "enable.auto.commit": False}
        self._consumer = Consumer(config)
        self._topic, self._scope = topic, scope
        self._store, self._trust, self._opened = store, trust, opened
        self._models: dict[str, tuple[Manifest, Any]] = {}
        self._stop = threading.Event()
        self._changed: Callable[[tuple[tuple[Manifest, Any], ...]], None] = lambda _models: None
        self._thread = threading.Thread(target=self._follow, name="models", daemon=True)

    def start(self, changed: Callable[[tuple[tuple[Manifest, Any], ...]], None]) -> None:
        """Read all that is there, then go on in the background; ``changed`` gets all active
        models, by the event time from which each counts, whenever that changes.

        Raises: BrokerUnreachable when the topic can't be read.
        """
        self._changed = changed
        self._catch_up()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _catch_up(self) -> None:
        start = TopicPartition(self._topic, ONLY_PARTITION, 0)
        try:
            self._consumer.assign([start])
            low, end = self._consumer.get_watermark_offsets(start, timeout=_CATCH_UP_S)
        except KafkaException as problem:
            raise BrokerUnreachable(
                f"models topic {self._topic}: {problem.args[0].str()}; does it exist "
                "(plimsoll topics create), may this user read it?"
            ) from problem
        while low < end:
            message = self._consumer.poll(_CATCH_UP_S)
            if message is None:
                raise BrokerUnreachable(f"models topic {self._topic}: no answer in {_CATCH_UP_S} s")
            if message.error() is None:
                low = (message.offset() or 0) + 1
                self._take(message)
        self._changed(self._active())

    def _follow(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(_POLL_S)
            if message is not None and message.error() is None:
                self._take(message)
                self._changed(self._active())

    def _take(self, message: Any) -> None:
        place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
        if message.value() is None:
            self._models.pop((message.key() or b"").decode(errors="replace"), None)
            return
        try:
            signed = decode(Signed, message.value())
            manifest = decode(Manifest, self._trust.verify(signed, Role.TRAINER))
            if manifest.scope == self._scope:
                self._apply((message.key() or b"").decode(errors="replace"), manifest)
        except (PlimsollError, MalformedRecord) as problem:
            log.error(  # noqa: TRY400  # refused is an answer: a trace would tell nothing
                "model refused, nothing of it is used", record=place, why=str(problem)
            )

    def _apply(self, key: str, manifest: Manifest) -> None:
        if manifest.stage is not Stage.ACTIVE:
            self._models.pop(key, None)
            return
        model = self._opened(manifest, self._store.load(manifest.sha256))
        self._models[key] = (manifest, model)
        log.info("model active", model=manifest.uid, from_ns=manifest.active_from_ns)

    def _active(self) -> tuple[tuple[Manifest, Any], ...]:
        return tuple(sorted(self._models.values(), key=lambda one: one[0].active_from_ns))
