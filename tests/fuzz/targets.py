"""The register: everything that reads what somebody else wrote, one line each.

A target is fed bytes. It returns, or raises what ``refuses`` names: anything else would end
the process that reads it. ``reads`` are the places in the source that it covers; a test finds
the places that no target and no exemption names.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import orjson

from models.contract import KIND_HEADER
from models.detectors.forest import Forest
from models.errors import (
    ArchiveUnusable,
    ConfigurationError,
    MalformedRecord,
    UntrustedFile,
    UntrustedMessage,
)
from models.evaluation import evaluate
from models.evidence import Head
from models.features import NAMES
from models.following import HORIZONS
from models.governor import unpack as unpacked_governor
from models.incident import Incident
from models.modelfile import digest, load
from models.normalfile import read_normal
from models.policy import read_policy
from models.records import decode, encode
from models.records.cases import Cases
from models.records.exhibit import Exhibit
from models.records.lesson import Lesson
from models.records.manifest import MODEL_KINDS, Manifest
from models.records.order import Order, Outcome
from models.records.rejected import DeadLetter
from models.records.signed import Signed
from models.records.telemetry import Batch
from models.records.verdict import Finding
from models.settings import read_file
from models.state import pack, unpack
from models.words import WordAnswer
from producers.gather.places import Places
from producers.settings import load as producers_load
from producers.sources.docker import cgroups, conntrack, events, interfaces, listens, stats
from producers.sources.docker.identity import Here, known_of, time_ns
from producers.sources.docker.netlink import Netlink, messages
from producers.sources.docker.secrecy import Secrecy, deployment_key
from producers.sources.docker.sockets import place_of
from producers.sources.docker.watch import STRANGE
from streams.alerts import unwrapped
from streams.archive.layout import manifest
from streams.commands.times import moment
from streams.keys import Role, Signer, read_trusted
from streams.lessons import opener
from streams.report.timeline import timeline
from streams.responders.store import Case
from streams.settings import load as streams_load
from streams.stores.models import ModelStore, Register, key_of, opened_record
from streams.table_format import Body, Marker, version_of
from streams.words import why_rejected
from tests.core.records.strategies import RECORDS
from tests.fuzz import seeds
from tests.fuzz.calls import called, written

Errors = tuple[type[Exception], ...]
MALFORMED: Final[Errors] = (MalformedRecord,)


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    feed: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    reads: tuple[str, ...]
    refuses: Errors = MALFORMED


# ---- records ---------------------------------------------------------------------------------

STORED: Final = (Head, WordAnswer, Incident, Case)
"""Records of ours that strategies.py's list of what crosses topics does not name."""


def _record(kind: type[Any]) -> Target:
    def feed(data: bytes) -> None:
        record = decode(kind, data)
        again = encode(record)  # what is taken in goes out again: to a table, topic or file
        assert encode(decode(kind, again)) == again

    def written() -> Sequence[bytes]:
        return seeds.incidents() if kind is Incident else seeds.written(kind)

    return Target(f"record/{kind.__name__.lower()}", feed, written, _CODEC)


def _binary_batch(data: bytes) -> None:
    again = decode(Batch, data).to_binary()
    assert decode(Batch, again).to_binary() == again


_CODEC: Final = (
    "models.records.codec:_parsed",
    "models.records.codec:decode", "models.records.codec:_bytes", "models.records.codec:_foreign",
)  # fmt: skip  # one line reads better


# ---- what is signed --------------------------------------------------------------------------


def _message(kind: str, key: bytes, value: bytes) -> Any:
    """A record of the models topic, as the client hands it over."""
    return SimpleNamespace(
        headers=lambda: [(KIND_HEADER, kind.encode())], value=lambda: value, key=lambda: key,
        timestamp=lambda: (2, seeds.NOW_NS // 10**6),
    )  # fmt: skip  # by subject


def _model_word(name: str) -> Target:
    kind = MODEL_KINDS[name]

    def feed(data: bytes) -> None:
        value = encode(seeds.SIGNERS[Role.TRAINER].sign(data))
        try:
            key = key_of(decode(kind, data)).encode()
        except MalformedRecord:
            key = b"any"
        record = opened_record(_message(name, key, value), seeds.TRUST)
        register = Register(record.scope)
        register.take(key.decode(), record)
        register.schedule().active_at(seeds.NOW_NS)

    refuses = (MalformedRecord, UntrustedMessage)
    return Target(f"models/{name}", feed, lambda: seeds.said_by_trainer(kind), _OPENED, refuses)


_OPENED: Final = ("streams.stores.models:opened_record",)


def _lesson(data: bytes) -> None:
    """Under the key of whoever may teach it."""
    for role in (Role.TRAINER, Role.GOVERNOR):
        opener(seeds.TRUST)(encode(seeds.SIGNERS[role].sign(data)), seeds.NOW_NS)


def _models_envelope(data: bytes) -> None:
    opened_record(_message("manifest", b"k", data), seeds.TRUST)


# ---- files -----------------------------------------------------------------------------------


def _model_file(data: bytes) -> None:
    """Whoever can write the manifest can make the hash fit."""
    forest = Forest(load(data, digest(data)))
    if forest.trees.features == NAMES:
        rows = np.random.default_rng(3).normal(size=(4, len(NAMES)))
        assert np.isfinite(forest.surprise(rows)).all()
        assert np.isfinite(forest.shares(rows)).all()
        for history in forest.trees.histories.values():
            assert (history.spread > 0.0).all()
            assert np.isfinite(history.residual.distance(np.ones((1, HORIZONS, len(NAMES))))).all()


def _model_array(data: bytes) -> None:
    _model_file(seeds.with_member(seeds.forest_file(), data))


def _case_array(data: bytes) -> None:
    _case_file(seeds.with_member(seeds.case_files()[0], data))


def _case_file(data: bytes) -> None:
    for _ in evaluate(Cases(io.BytesIO(data)), 1.0):
        pass


def _text(read: Callable[[str], object]) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        read(data.decode(errors="replace"))

    return feed


_FOLDER: Final = tempfile.TemporaryDirectory(prefix="plimsoll-fuzz-")


def _folder() -> Path:
    """This process's own: those that share the work were forked after it was made."""
    own = Path(_FOLDER.name) / str(os.getpid())
    own.mkdir(exist_ok=True)
    return own


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Write the bytes to a file of that name, and read it."""

    def feed(data: bytes) -> None:
        path = _folder() / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
        read(path)

    return feed


def _places(path: Path) -> None:
    places = Places([path])
    for address in ("198.51.100.9", "2001:db8::1", "", "h"):
        places.of(address)


def _netlink(data: bytes) -> None:
    Netlink().entry_of(data)
    Netlink().unanswered(data)
    list(messages(data, 258))


def _settings(path: Path) -> None:
    os.environ["PLIMSOLL_CONFIG"] = str(path)
    try:
        streams_load()
        producers_load()
    finally:
        del os.environ["PLIMSOLL_CONFIG"]


def _environment(data: bytes) -> None:
    """``NAME=value`` by lines; a process can't have a zero byte in either."""
    lines = [line.partition("=") for line in data.decode(errors="replace").split("\n")]
    said = {f"PLIMSOLL_{name}": value for name, _, value in lines if "\0" not in name + value}
    before = dict(os.environ)
    try:
        os.environ.update({name: value for name, value in said.items() if _can_be_set(name, value)})
        streams_load()
        producers_load()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _can_be_set(name: str, value: str) -> bool:
    return "=" not in name and name.isascii() and "CONFIG" not in name and value.isprintable()


# ---- rows of tables ----------------------------------------------------------------------------


def _lineage(data: bytes) -> None:
    """One row of a lineage's hostile, behind its name and a line's end; the others as they are."""
    name, _, body = data.partition(b"\n")
    pack(unpack({**seeds.lineage_rows(), name.decode(errors="replace"): body}))


def _lineage_rows() -> list[bytes]:
    return [name.encode() + b"\n" + body for name, body in seeds.lineage_rows().items()]


def _row(data: bytes) -> None:
    version_of(data)
    Body.decode(data).at(3)


def _marker(data: bytes) -> None:
    marker = Marker.decode(data)
    marker.encode()
    marker.rows()


def _governor_row(data: bytes) -> None:
    unpacked_governor({"g": data})


def _globals() -> list[bytes]:
    from models.governor import pack as packed

    return [packed(seeds.governor_bench().state)["g"]]


# ---- what people read ------------------------------------------------------------------------


def _alert(data: bytes) -> None:
    """Headers and value of a record, in one JSON object; else the bytes are the value."""
    try:
        told = orjson.loads(data)
        headers = [(str(name), str(body).encode()) for name, body in told["headers"].items()]
        value = orjson.dumps(told["value"])
    except (ValueError, TypeError, LookupError, AttributeError):
        headers, value = [("content-type", b"application/json")], data
    unwrapped(b"k", value, headers)


def _timeline(kind: str, content: bytes) -> None:
    exhibit = Exhibit("default", "i", 0, kind, seeds.NOW_NS, "governor", "", 1, content=content)
    timeline([exhibit])


# ---- the docker source -----------------------------------------------------------------------

SECRECY: Final = Secrecy(b"k" * 32)
HERE: Final = Here("default", "h1")
INSPECTED: Final = orjson.dumps({
    "Id": "c" * 64, "Name": "/cart", "Image": "sha256:" + "a" * 64, "AppArmorProfile": "p",
    "State": {"Status": "running", "Pid": 7, "StartedAt": "2026-11-25T10:00:00.123456789Z"},
    "Config": {
        "Image": "shop/cart:7", "Labels": {"com.docker.compose.service": "web", "team": "a"},
        "Cmd": ["run", "--password", "x"], "Entrypoint": ["/init"], "Env": ["A=1", "KEY=s"],
        "User": "app", "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
    },
    "HostConfig": {
        "NetworkMode": "shop_default", "Memory": 1 << 28, "NanoCpus": 5 * 10**8, "CapAdd": ["X"],
        "SecurityOpt": ["seccomp={}"], "Privileged": False, "ReadonlyRootfs": True, "PidMode": "",
        "Devices": [{"PathOnHost": "/dev/x", "PathInContainer": "/dev/x"}],
    },
    "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/u", "LowerDir": "/a:/b"}},
    "NetworkSettings": {"Networks": {"shop_default": {"IPAddress": "172.18.0.2"}}},
    "Mounts": [{"Type": "volume", "Name": "v", "Destination": "/data", "RW": True}],
})  # fmt: skip  # as the engine has it
EVENTS: Final = [
    orjson.dumps({
        "Type": "container", "Action": action, "timeNano": seeds.NOW_NS,
        "Actor": {"ID": "c" * 64, "Attributes": {"image": "shop/cart:7", "exitCode": "137"}},
    })
    for action in ("start", "die", "exec_start: sh -c ls", "oom", "destroy")
]  # fmt: skip  # as the engine has it
STATS: Final = orjson.dumps({
    "cpu_stats": {"cpu_usage": {"total_usage": 5}, "throttling_data": {"periods": 1}},
    "memory_stats": {"usage": 100, "stats": {"file": 10, "shmem": 1}}, "pids_stats": {"current": 3},
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 4}]},
    "networks": {"eth0": {"rx_bytes": 1, "rx_packets": 1, "tx_bytes": 1, "tx_packets": 1}},
})  # fmt: skip  # as the engine has it
TRACKED: Final = (
    b"ipv4     2 tcp      6 431999 ESTABLISHED src=172.18.0.2 dst=10.0.0.9 sport=41000 dport=443 "
    b"packets=9 bytes=900 src=10.0.0.9 dst=172.18.0.2 sport=443 dport=41000 packets=8 bytes=800 "
    b"[ASSURED] mark=0 use=1\n"
    b"ipv6     10 udp      17 20 src=fd00:0000:0000:0000:0000:0000:0000:0002 "
    b"dst=fd00:0000:0000:0000:0000:0000:0000:0001 sport=5000 dport=53 [UNREPLIED] "
    b"src=fd00:0000:0000:0000:0000:0000:0000:0001 dst=fd00:0000:0000:0000:0000:0000:0000:0002 "
    b"sport=53 dport=5000 mark=0 use=1\n"
)
LISTENING: Final = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
    b"   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
    b"   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0\n"
)
LISTENERS: Final = [
    b"\x02\x0a\0\0\x1f\x90\0\0" + b"\x0a\0\0\x01" + b"\0" * 56,
    b"\x0a\x0a\0\0\0\x50\0\0" + b"\0" * 64,
]
DEVICES: Final = b"a\nb\n  lo: 9 9 0 0 0 0 0 0 9 9 0\n eth0: 5 1 0 0 0 0 0 0 7 2 0\n"
CGROUP: Final = b"usage_usec 52\nnr_periods 3\n8:0 rbytes=5 wbytes=7\n8:16 rbytes=1 wbytes=2\n"


def _attribute(kind: int, content: bytes) -> bytes:
    padded = content + b"\0" * (-len(content) % 4)
    return (len(content) + 4).to_bytes(2, "little") + kind.to_bytes(2, "little") + padded


def _netlink_entries() -> list[bytes]:
    def way(source: bytes, target: bytes) -> bytes:
        address = _attribute(1, source) + _attribute(2, target)
        ports = _attribute(1, b"\x06") + _attribute(2, b"\x01\xbb") + _attribute(3, b"\x20\x00")
        return _attribute(1, address) + _attribute(2, ports)

    both = way(b"\x0a\0\0\x01", b"\x0a\0\0\x02"), way(b"\x0a\0\0\x02", b"\x0a\0\0\x01")
    counts = _attribute(1, (9).to_bytes(8, "big")) + _attribute(2, (900).to_bytes(8, "big"))
    entry = b"".join((
        _attribute(1, both[0]), _attribute(2, both[1]), _attribute(3, b"\0\0\0\x02"),
        _attribute(9, counts), _attribute(10, counts),
    ))  # fmt: skip  # in the kernel's order
    return [entry]


def _known(data: bytes) -> None:
    encode(known_of(orjson.loads(data), ("shop/cart@sha256:bb",), HERE, SECRECY, 1).entry)


def _event(data: bytes) -> None:
    event = orjson.loads(data)
    told = events.observation_of(event, None, SECRECY)
    events.OwnActs(_folder()).cover(event)
    encode(told) if told is not None else None


def _cgroup(data: bytes) -> None:
    for name in (b"usage_usec ", b"nr_periods ", b"file "):
        cgroups._field(data, name)
    cgroups._number(data)
    cgroups._summed(data, b" rbytes=")


_ENGINE: Final[Errors] = STRANGE
"""What watch.py takes from an engine that answers in another form than it promises."""
_DOCKER: Final = "producers.sources.docker"


def _baseline_file(data: bytes) -> None:
    read_normal(data, "web.toml")


# ---- the register --------------------------------------------------------------------------

TARGETS: Final[tuple[Target, ...]] = (
    *map(_record, (*RECORDS, *STORED)),
    *map(_model_word, MODEL_KINDS),
    Target("record/batch-binary", _binary_batch, seeds.binary_batches, ("models.records.binary:read",)),
    Target("models/lesson", _lesson, lambda: seeds.said_by_trainer(Lesson), ("streams.lessons:opener",)),
    Target("models/envelope", _models_envelope, lambda: seeds.signed(Manifest, Role.TRAINER), _OPENED, (MalformedRecord, UntrustedMessage)),
    Target("file/model", _model_file, seeds.model_files, ("models.modelfile:_read",), (UntrustedFile,)),
    Target("file/model-array", _model_array, lambda: seeds.members(seeds.forest_file()), ("models.modelfile:_read",), (UntrustedFile,)),
    Target("file/policy", _text(read_policy), lambda: [seeds.POLICY], ("models.policy:read_policy",), (UntrustedFile,)),
    Target("file/baseline", _baseline_file, seeds.baseline_files, ("models.normalfile:_parsed",), (UntrustedFile,)),
    Target("file/cases", _case_file, seeds.case_files, ("models.records.cases:Cases.__init__", "models.records.cases:Cases._meta")),
    Target("file/cases-array", _case_array, lambda: seeds.members(seeds.case_files()[0]), ("models.records.cases:Cases._meta",)),
    Target("file/settings", _file("settings.toml", _settings), lambda: [seeds.SETTINGS], ("models.settings:read_file",), (ConfigurationError,)),
    Target("file/trusted", _file("trusted.json", lambda path: read_trusted(path.parent)), seeds.trusted_files, ("streams.keys:read_trusted", "streams.keys:_trusted"), (UntrustedFile,)),
    Target("file/places", _file("places.mmdb", _places), seeds.place_files, ("producers.gather.places:_country", "producers.gather.places:_network"), (ConfigurationError,)),
    Target("file/key", _file("governor.key", lambda path: Signer.load(path.parent, "governor")), seeds.private_keys, ("streams.keys:_private_key",), (UntrustedFile,)),
    Target("file/secrecy", _file("deployment.key", lambda path: deployment_key(path.parent)), lambda: [b"ab" * 32, b"x" * 40], (f"{_DOCKER}.secrecy:_decoded",), (ConfigurationError,)),
    Target("file/card", _file("m1.json", lambda path: _store(path.parent).forest("m1")), seeds.model_cards, ("streams.stores.models:ModelStore.forest",), (UntrustedFile,)),
    Target("file/lot", _file("lot-000000007/lot.json", lambda path: manifest(path.parent)), lambda: [seeds.LOT], ("streams.archive.layout:manifest", "streams.archive.layout:_unpacked"), (ArchiveUnusable,)),
    Target("environment", _environment, lambda: [b"SCOPE=a\nKAFKA__BOOTSTRAP=k:1\nWORKER={\"group\":\"g\"}\nUP__PARTS=[\"worker\"]"], ("models.settings:read_file",), (ConfigurationError,)),
    Target("command/call", called, written, ()),
    Target("command/time", _text(lambda said: moment(said, seeds.NOW_NS)), lambda: seeds.MOMENTS, ("streams.commands.times:moment",), (ConfigurationError,)),
    Target("command/word", lambda data: why_rejected(data, "0" * 64), lambda: seeds.written(DeadLetter), ("streams.words:why_rejected",)),
    Target("row/lineage", _lineage, _lineage_rows, ("models.state:_opened", "models.state:_lessons_from")),
    Target("row/governor", _governor_row, _globals, ("models.governor:unpack",)),
    Target("row/body", _row, lambda: seeds.TABLE_ROWS, ("streams.table_format:Body.decode", "streams.table_format:version_of")),
    Target("row/marker", _marker, lambda: seeds.MARKERS, ("streams.table_format:Marker._decoded", "streams.table_format:Marker.rows", "streams.table_format:due_of")),
    Target("alert", _alert, seeds.alert_messages, ("streams.alerts:unwrapped",)),
    Target("report/finding", lambda data: _timeline("finding", data), lambda: seeds.written(Finding), ("streams.report.timeline:_told",)),
    Target("report/order", lambda data: _timeline("order", data), lambda: seeds.written(Order), ("streams.report.timeline:_told",)),
    Target("report/outcome", lambda data: _timeline("outcome", data), lambda: seeds.written(Outcome), ("streams.report.timeline:_told",)),
    Target("report/word", lambda data: _timeline("word", data), lambda: seeds.written(Signed), ("streams.report.timeline:_told",)),
    Target("docker/inspect", _known, lambda: [INSPECTED], (f"{_DOCKER}.identity:time_ns",), _ENGINE),
    Target("docker/time", _text(time_ns), lambda: [b"2026-11-25T10:00:00.5+02:00"], (f"{_DOCKER}.identity:time_ns",), _ENGINE),
    Target("docker/event", _event, lambda: EVENTS, (f"{_DOCKER}.secrecy:_escaped",), _ENGINE),
    Target("docker/stats", lambda data: stats.reading_of(orjson.loads(data), 1), lambda: [STATS], (f"{_DOCKER}.stats:reading_of",), _ENGINE),
    Target("docker/netlink", _netlink, _netlink_entries, (f"{_DOCKER}.netlink:Netlink._entry", f"{_DOCKER}.netlink:Netlink.unanswered", f"{_DOCKER}.netlink:messages", f"{_DOCKER}.netlink:_attributes", f"{_DOCKER}.netlink:_tuple", f"{_DOCKER}.netlink:_counts"), ()),
    Target("docker/conntrack", _text(lambda text: list(conntrack.entries_of(text))), lambda: [TRACKED], (f"{_DOCKER}.conntrack:_usual",), ()),
    Target("docker/listens", _text(lambda text: list(listens.told(listens.listening(text)))), lambda: [LISTENING], (f"{_DOCKER}.listens:_address",), ()),
    Target("docker/sockets", lambda data: list(listens.told(filter(None, [place_of(data)]))), lambda: LISTENERS, (f"{_DOCKER}.sockets:place_of",), ()),
    Target("docker/interfaces", lambda data: interfaces.totals(data, interfaces.not_loopback), lambda: [DEVICES], (f"{_DOCKER}.interfaces:totals",), ()),
    Target("docker/cgroup", _cgroup, lambda: [CGROUP], (f"{_DOCKER}.cgroups:_field",), ()),
    Target("docker/scrubbed", _text(SECRECY.scrubbed), lambda: [b"mysql -uroot -phunter2 --password=x https://a:b@c/ Bearer abc"], (f"{_DOCKER}.secrecy:_escaped",), ()),
)  # fmt: skip  # one line a target: it is a register


def _store(folder: Path) -> ModelStore:
    store = ModelStore(folder)
    if not store.path(digest(seeds.forest_file())).exists():
        store.save(seeds.forest_file())
    return store


BY_NAME: Final = {target.name: target for target in TARGETS}
__all__ = ["BY_NAME", "TARGETS", "Target", "read_file"]
