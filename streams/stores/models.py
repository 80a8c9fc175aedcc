"""Model files by their hash, and what the models topic says of them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from models.contract import KIND_HEADER, ONLY_PARTITION, READER
from models.detectors.forest import Forest
from models.errors import BrokerUnreachable, MalformedRecord, PlimsollError, UntrustedFile
from models.features import NAMES
from models.modelfile import MOST_BYTES, load
from models.pipeline import Models
from models.records.codec import decode, encode
from models.records.manifest import MODEL_KINDS, Manifest, Rehearsal, Staging
from models.records.signed import Signed
from models.register import Schedule, Turn, implied, schedule
from streams.bounds import bounds
from streams.keys import Role, Signer, Trust, signed_by
from streams.permitted import explained, heed

log = structlog.get_logger(__name__)

ModelRecord = Manifest | Staging | Rehearsal
KIND_OF: Final = {kind: name for name, kind in MODEL_KINDS.items()}
MAY_SAY: Final[Mapping[Any, tuple[Role, ...]]] = {
    Manifest: (Role.TRAINER,),
    Staging: (Role.TRAINER, Role.OPERATOR),
    Rehearsal: (Role.TRAINER, Role.OPERATOR),
}
"""Whose key counts for what."""
MOST_TURNS: Final = 32
"""Before the last so many turns no model is known: nobody keeps telemetry for so long."""
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_CATCH_UP_S: Final = 30.0
_POLL_S: Final = 0.5


class ModelStore:
    """A directory of model files, each under the SHA-256 of its bytes: none ever changes.
    Beside each lies its card, for people.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, content: bytes) -> str:
        """Keep the bytes; their hash, under which they are found again."""
        digest = hashlib.sha256(content).hexdigest()
        self._write(self.path(digest), content)
        return digest

    def save_card(self, manifest: Manifest, signed: Signed) -> Path:
        """The manifest as a person reads it, and the envelope that proves it."""
        path = self._directory / f"{manifest.uid}.json"
        body = {
            "manifest": orjson.loads(signed.payload),
            "signed": orjson.loads(encode(signed)),
        }
        self._write(path, orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n")
        return path

    def load(self, digest: str) -> bytes:
        """The bytes of that hash.

        Raises: UntrustedFile when they are gone, others, too many, or no plain file.
        """
        if not _DIGEST.fullmatch(digest):
            raise UntrustedFile(f"{digest[:80]!r} is no SHA-256: no model file is called so")
        path = self.path(digest)
        try:
            content = _plain_bytes(path)
        except OSError as problem:
            raise UntrustedFile(
                f"model file {path}: {problem.strerror}; copy it there, or point "
                "models_dir at where the trainer writes"
            ) from problem
        if hashlib.sha256(content).hexdigest() != digest:
            raise UntrustedFile(f"model file {path} was changed: nothing of it used")
        return content

    def forest(self, uid: str) -> Forest:
        """The forest that the card beside its file tells of. Nobody's signature is checked: to
        look at a past verdict, never to decide by.

        Raises: UntrustedFile when card or file are gone, or do not fit.
        """
        path = self._directory / f"{uid}.json"
        try:
            manifest = decode(Manifest, orjson.dumps(orjson.loads(path.read_bytes())["manifest"]))
        except (OSError, ValueError, LookupError, TypeError, MalformedRecord) as problem:
            raise UntrustedFile(
                f"model card {path}: {problem}; copy it there with its file, or point models_dir "
                "at where the trainer writes"
            ) from problem
        return forest_of(manifest, self.load(manifest.sha256))

    def path(self, digest: str) -> Path:
        return self._directory / f"{digest}.npz"

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)


def _plain_bytes(path: Path) -> bytes:
    """The bytes of a plain file of bounded size; a link could point anywhere."""
    if path.is_symlink():
        raise UntrustedFile(f"model file {path} is a link: nothing of it used; copy the file")
    # Between the look and the opening it may have been changed into one.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise UntrustedFile(f"model file {path} is no plain file: nothing of it used")
        if found.st_size > MOST_BYTES:
            raise UntrustedFile(
                f"model file {path} has {found.st_size} bytes, at most {MOST_BYTES}: not read"
            )
        return file.read(MOST_BYTES + 1)


def forest_of(manifest: Manifest, content: bytes) -> Forest:
    """The forest of a manifest's file. Raises: UntrustedFile when they do not fit."""
    if manifest.features != NAMES:
        raise UntrustedFile(
            f"model {manifest.uid} sees {', '.join(manifest.features)}; this release judges "
            f"{', '.join(NAMES)}: train anew"
        )
    return Forest(load(content, manifest.sha256, manifest.uid))


# ---- records --------------------------------------------------------------------------------


def announced(record: ModelRecord, signer: Signer) -> tuple[bytes, bytes]:
    """Key and value of a record on the models topic."""
    return key_of(record).encode(), encode(signer.sign(encode(record)))


def header_of(record: ModelRecord) -> dict[str, str | bytes | None]:
    return {KIND_HEADER: KIND_OF[type(record)].encode()}


def key_of(record: ModelRecord) -> str:
    """A word never takes the place of another: each has a key of its own.

    >>> from models.records.manifest import Stage
    >>> key_of(Staging("w1", "default", "m1", Stage.RETIRED, 10**18, 10**18 - 10**10, "ann"))
    'default/m1/w1'
    """
    if isinstance(record, Manifest):
        return f"{record.scope}/{record.uid}"
    return f"{record.scope}/{record.model or 'as-it-was'}/{record.uid}"


def opened_record(message: Any, trust: Trust) -> ModelRecord:
    """The record of a message, once key, signature and role hold.

    Raises: PlimsollError, saying what does not hold.
    """
    headers = dict(message.headers() or ())
    name = bytes(headers.get(KIND_HEADER) or b"manifest").decode(errors="replace")
    if name not in MODEL_KINDS:
        raise MalformedRecord("unknown-schema", f"{name!r} is none of {', '.join(MODEL_KINDS)}")
    kind = MODEL_KINDS[name]
    signed = decode(Signed, message.value())
    stamp, at_ms = message.timestamp()
    # Where the log itself dates records, a key that was replaced since vouches for what it
    # signed then; else anybody could date a record back.
    at_ns = at_ms * 10**6 if stamp == TIMESTAMP_LOG_APPEND_TIME else None
    payload, signer = signed_by(trust, signed, MAY_SAY[kind], at_ns)
    record: ModelRecord = decode(kind, payload)
    if message.key() != key_of(record).encode():
        raise MalformedRecord("misplaced", f"its key is not {key_of(record)!r}", "key")
    if not isinstance(record, Manifest) and record.by != signer:
        raise MalformedRecord("untrusted", f"{record.by!r} speaks with the key of {signer!r}", "by")
    return record


@dataclass(slots=True)
class Register:
    """What the models topic says about one scope: a set, whatever the order."""

    scope: str
    manifests: dict[str, Manifest] = field(default_factory=dict)
    words: dict[str, Staging] = field(default_factory=dict)
    rehearsals: dict[str, Rehearsal] = field(default_factory=dict)

    def take(self, key: str, record: ModelRecord) -> None:
        if record.scope != self.scope:
            return
        if isinstance(record, Manifest):
            self.manifests[key] = record
        elif isinstance(record, Staging):
            self.words[key] = record
        else:
            self.rehearsals[key] = record

    def drop(self, key: str) -> None:
        for table in (self.manifests, self.words, self.rehearsals):
            table.pop(key, None)

    def model(self, uid: str) -> Manifest | None:
        return self.manifests.get(f"{self.scope}/{uid}")

    def stagings(self) -> list[Staging]:
        said = [word for one in self.manifests.values() if (word := implied(one)) is not None]
        return [*said, *self.words.values()]

    def schedules(self, usable: Iterable[str] | None = None) -> dict[str, Schedule]:
        """The turns of the models whose manifest is known: the fleet's under "", others by the
        lineage that they serve.
        """
        serves = {one.uid: one.lineage for one in self.manifests.values()}
        known = serves.keys() if usable is None else serves.keys() & set(usable)
        words: dict[str, list[Staging]] = {"": []}
        for word in self.stagings():
            if word.model in serves:
                words.setdefault(serves[word.model], []).append(word)
        return {lineage: schedule(said, known) for lineage, said in words.items()}

    def schedule(self, usable: Iterable[str] | None = None, lineage: str = "") -> Schedule:
        """The turns of the fleet's models, or of one lineage's own."""
        return self.schedules(usable).get(lineage, Schedule())


# ---- following ------------------------------------------------------------------------------

Turns = tuple[tuple[int, Any], ...]


@dataclass(frozen=True, slots=True)
class Roster:
    """Opened models by the event time from which each counts; None: none from then on. ``own``
    and ``own_shadow`` by the lineage that they serve.
    """

    active: Turns = ()
    shadow: Turns = ()
    own: dict[str, Turns] = field(default_factory=dict)
    own_shadow: dict[str, Turns] = field(default_factory=dict)

    @property
    def models(self) -> Models:
        """The same as the judge takes it."""
        return Models(self.active, self.shadow, self.own, self.own_shadow)


def roster_of(register: Register, store: ModelStore) -> Roster:
    """The models as a worker would have them now; those that can't be used left out, with a
    line that says why.
    """
    models: dict[str, Any] = {}
    every = register.schedules().values()
    turns = [turn for now in every for turn in (*now.active, *now.shadow)]
    for uid in sorted({turn.model for turn in turns} - {""}):
        manifest = register.model(uid)
        if manifest is not None:
            open_into(models, manifest, store, forest_of)
    return _roster(register.schedules(models), models)


def open_into(
    models: dict[str, Any], manifest: Manifest, store: ModelStore,
    opened: Callable[[Manifest, bytes], Any],
) -> None:  # fmt: skip  # two lines say as much
    try:
        models[manifest.uid] = opened(manifest, store.load(manifest.sha256))
    except PlimsollError as problem:
        _refuse(str(problem), model=manifest.uid)
    except Exception as problem:  # noqa: BLE001  # whatever a file does, judging goes on
        _refuse(repr(problem), model=manifest.uid)


def _roster(schedules: Mapping[str, Schedule], models: Mapping[str, Any]) -> Roster:
    def opened(turns: tuple[Turn, ...]) -> Turns:
        return tuple((turn.from_ns, models.get(turn.model)) for turn in turns[-MOST_TURNS:])

    own = {lineage: now for lineage, now in sorted(schedules.items()) if lineage}
    fleet = schedules[""]
    return Roster(
        opened(fleet.active), opened(fleet.shadow),
        {lineage: opened(now.active) for lineage, now in own.items() if now.active},
        {lineage: opened(now.shadow) for lineage, now in own.items() if now.shadow},
    )  # fmt: skip  # as the fields lie


class Follower:
    """What trainers and operators said of one scope, kept up with the topic by a thread of its
    own. What does not hold is left out, with a line that says why.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str, scope: str, *, trust: Trust
    ) -> None:  # fmt: skip  # as the others
        self._config = {**kafka, "group.id": READER, "enable.auto.commit": False}
        self._consumer = Consumer(self._config)
        self._topic, self._trust = topic, trust
        self._register = Register(scope)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="models", daemon=True)

    def begin(self) -> None:
        """Read all that is there, then go on in the background.

        Raises: BrokerUnreachable when the topic can't be read.
        """
        self._catch_up()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _heard(self, record: ModelRecord, logged_ns: int) -> None:
        """A record of ours that holds, and when the log took it in."""

    def _tell(self) -> None:
        """All that is there, or one more, has been taken."""

    def _catch_up(self) -> None:
        start = TopicPartition(self._topic, ONLY_PARTITION, 0)
        try:
            self._consumer.assign([start])
            low, end = bounds(self._consumer, self._topic, ONLY_PARTITION)
            while low < end:
                message = self._consumer.poll(_CATCH_UP_S)
                if message is None:
                    (now,) = self._consumer.position([start])
                    if now.offset >= end:  # compaction took the last one
                        break
                    raise BrokerUnreachable(
                        f"models topic {self._topic}: no answer in {_CATCH_UP_S} s"
                    )
                heed(message.error(), self._config, "Read", self._topic)
                if message.error() is None:
                    low = (message.offset() or 0) + 1
                    self._take(message)
        except KafkaException as problem:
            heed(problem.args[0], self._config, "Read", self._topic)
            raise BrokerUnreachable(
                f"models topic {self._topic}: {problem.args[0].str()}; does it exist "
                "(plimsoll topics create), may this user read it?"
            ) from problem
        self._tell()

    def _follow(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(_POLL_S)
            if message is None:
                continue
            if message.error() is None:
                self._take(message)
                self._tell()
            else:
                log.error("models cannot be followed", why=self._why(message.error()))

    def _why(self, problem: KafkaError | None) -> str:
        return explained(problem, self._config, "Read", self._topic)

    def _take(self, message: Any) -> None:
        place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
        key = (message.key() or b"").decode(errors="replace")
        if message.value() is None:
            self._register.drop(key)
            return
        try:
            record = opened_record(message, self._trust)
            _warn_if_late(record, message.timestamp())
            self._register.take(key, record)
            if record.scope == self._register.scope:
                self._heard(record, message.timestamp()[1] * 10**6)
        except PlimsollError as problem:
            _refuse(str(problem), record=place)


class ModelFollower(Follower):
    """The active and shadow models of one scope.

    ``opened`` turns manifest and file into a model, or raises UntrustedFile. A model that
    is forged, damaged or of another shape is left out; what was active before stays.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str, scope: str, *, store: ModelStore, trust: Trust,
        opened: Callable[[Manifest, bytes], Any],
    ) -> None:  # fmt: skip  # two lines read better than seven
        super().__init__(kafka, topic, scope, trust=trust)
        self._store, self._opened = store, opened
        self._models: dict[str, Any] = {}
        self._told: dict[str, Schedule] | None = None
        self._changed: Callable[[Roster], None] = lambda _roster: None

    def start(self, changed: Callable[[Roster], None]) -> None:
        """Follow; ``changed`` gets all active and shadow models, by the event time from which
        each counts, whenever that changes.

        Raises: BrokerUnreachable when the topic can't be read.
        """
        self._changed = changed
        self.begin()

    def _tell(self) -> None:
        """Open what a turn names and is not open yet, then say whose turn it is when."""
        turns = [turn for now in self._register.schedules().values() for turn in self._turns(now)]
        wanted = {turn.model for turn in turns}
        for uid in sorted(wanted - self._models.keys() - {""}):
            manifest = self._register.model(uid)
            if manifest is not None:
                open_into(self._models, manifest, self._store, self._opened)
        now = self._register.schedules(self._models)
        if now != self._told:
            before, self._told = self._told or {}, now
            for lineage, turned in now.items():
                was = before.get(lineage, Schedule())
                _log("model active", was.active, turned.active, lineage)
                _log("model in shadow", was.shadow, turned.shadow, lineage)
            self._changed(_roster(now, self._models))

    def _turns(self, now: Schedule) -> tuple[Turn, ...]:
        return (*now.active[-MOST_TURNS:], *now.shadow[-MOST_TURNS:])


def _warn_if_late(record: ModelRecord, stamp: tuple[int, int]) -> None:
    """A word that the log took in after its time: what was judged before then stays so."""
    dated, at_ms = stamp
    if not isinstance(record, Staging) or dated != TIMESTAMP_LOG_APPEND_TIME:
        return
    if record.from_ns < at_ms * 10**6:
        log.warning("model word came late", word=record.uid, stage=record.stage)


def _log(what: str, before: tuple[Turn, ...], now: tuple[Turn, ...], lineage: str) -> None:
    about = {"lineage": lineage} if lineage else {}
    for turn in now[-1:]:
        if before[-1:] != now[-1:]:
            log.info(what, model=turn.model or "none", from_ns=turn.from_ns, **about)


def _refuse(why: str, **about: str) -> None:
    log.error("model refused, nothing of it is used", why=why, **about)


class RehearsalFollower(Follower):
    """What past windows came to, as it is said; ``heard`` gets each, and when the log took it
    in.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str, scope: str, *, trust: Trust,
        heard: Callable[[Rehearsal, int], None],
    ) -> None:  # fmt: skip  # two lines read better than seven
        super().__init__(kafka, topic, scope, trust=trust)
        self._told_of = heard

    def _heard(self, record: ModelRecord, logged_ns: int) -> None:
        if isinstance(record, Rehearsal):
            self._told_of(record, logged_ns)
