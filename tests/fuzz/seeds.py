"""What hostile input is made from: valid records, files, answers and command inputs."""

from __future__ import annotations

import functools
import io
import tempfile
import tomllib
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from models import history
from models.features import NAMES
from models.modelfile import digest, save
from models.records.codec import encode
from models.records.manifest import Manifest
from models.records.telemetry import Batch
from models.training import fit
from streams.keys import Role, Signer, Trust, TrustedKey, key_id
from streams.table_format import Body, Marker, held
from tests.core.governing import Bench, finding, outcome, tick
from tests.core.records.strategies import records

SIGNERS = {
    role: Signer(role.value, Ed25519PrivateKey.from_private_bytes(bytes([at]) * 32))
    for at, role in enumerate(Role, 1)
}
"""The same keys in every run, so that a failure can be had again."""
NOW_NS = 1_790_000_000 * 10**9
TRUST = Trust(
    [TrustedKey(one.key, one.name, role, one.public, 0) for role, one in SIGNERS.items()],
    lambda: NOW_NS,
)


@functools.cache
def drawn(kind: Any, count: int = 24) -> tuple[Any, ...]:
    """Valid records of a kind, always the same ones."""
    found: list[Any] = []

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip  # by subject
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        found.append(data.draw(records(kind)))

    draw()
    return tuple(found)


def written(kind: Any) -> list[bytes]:
    return [encode(one) for one in drawn(kind)]


def signed(kind: Any, role: Role) -> list[bytes]:
    return [encode(SIGNERS[role].sign(encode(one))) for one in drawn(kind)]


def said_by_trainer(kind: Any) -> list[bytes]:
    """Payloads that a target signs itself: hostile, and with a signature that holds."""
    names = {field.name for field in fields(kind)}
    name = SIGNERS[Role.TRAINER].name
    return [encode(replace(one, by=name) if "by" in names else one) for one in drawn(kind)]


# ---- files ----------------------------------------------------------------------------------


@functools.cache
def forest_file() -> bytes:
    rows = np.random.default_rng(1).normal(size=(300, len(NAMES)))
    histories = {"default/shop/web/": history.learned([rows])}
    return save(replace(fit(rows, NAMES, seed=7, trees=3), histories=histories))


@functools.cache
def model_files() -> list[bytes]:
    """The forest, compressed and not, so that bites reach the arrays too."""
    stored = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(forest_file())) as before,
        zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as after,
    ):
        for name in before.namelist():
            after.writestr(zipfile.ZipInfo(name), before.read(name))
    return [forest_file(), stored.getvalue()]


@functools.cache
def place_files() -> list[bytes]:
    """As GeoLite2 and IPinfo tell places."""
    found = []
    for told in (
        {"country": {"iso_code": "NL"}, "autonomous_system_number": 64500},
        {"country": "BR", "asn": "AS64501", "as_name": "Exemplo"},
    ):
        writer = MMDBWriter(6, "Test", ipv4_compatible=True)
        writer.insert_network(IPSet(["198.51.100.0/24", "2001:db8::/32"]), told)
        with tempfile.NamedTemporaryFile() as file:
            writer.to_db_file(file.name)
            found.append(Path(file.name).read_bytes())
    return found


def members(archive: bytes) -> list[bytes]:
    """Each array of an npz file, behind its name and a line's end."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return [name.encode() + b"\n" + file.read(name) for name in file.namelist()]


def with_member(archive: bytes, said: bytes) -> bytes:
    """The npz file with that array in place of its own: packed well, whatever it holds."""
    name, _, body = said.partition(b"\n")
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(target, "w") as after:
        for one in before.namelist():
            content = body if one.encode() == name else before.read(one)
            after.writestr(zipfile.ZipInfo(one), content)
    return target.getvalue()


def case_files() -> list[bytes]:
    target = io.BytesIO()
    rows = np.random.default_rng(2).normal(size=(12, 2))
    meta = np.array('{"name": "small", "period_s": 60.0, "merge_s": 3600.0}')
    arrays: dict[str, Any] = {"a/image": np.array("web"), "a/train": rows, "a/test": rows}
    np.savez(target, meta=meta, **arrays)
    return [target.getvalue()]


def binary_batches() -> list[bytes]:
    return [one.to_binary() for one in drawn(Batch)]


def baseline_files() -> list[bytes]:
    """What `plimsoll baseline export` writes, in both forms."""
    text = """scope = "default"
lineage = "shop/web"
image = "shop/web@sha256:1"
first_ns = 1790000000000000000
known = 0.9
container_blocks = 40
line = 6.2
facts = ["peer 192.0.2.7:443", "prog /bin/sh < "]
[features.cpu_cores]
unit = "cores"
usual = 0.5
low = 0.1
high = 1.0
deviation = 0.2
blocks = 40
"""
    return [text.encode(), orjson.dumps(tomllib.loads(text))]


POLICY = b"""mode = "enforce"
ladder = ["isolate", "pause"]
[[rules]]
levels = ["compromised"]
families = ["egress", "process"]
lineages = ["registry/shop/*"]
action = "isolate"
[[rules]]
levels = ["corrupted", "suspect"]
action = "redeploy"
[protected]
lineages = ["registry/shop/db"]
hosts = ["h1"]
[guards]
largest_share = 0.5
per_hour = 5
[times]
ttl_s = 600
quiet_s = 300.5
"""
SETTINGS = b"""scope = "production"
topic_prefix = "p."
data_dir = "/nonexistent"
[kafka]
bootstrap = "kafka-1:9093,kafka-2:9093"
security_protocol = "sasl_ssl"
username = "plimsoll"
password = "secret"
[topics]
partitions = 12
[worker]
commit_interval_s = 1.5
[governor]
mode = "approve"
[collect]
sample_period_s = 1.0
[gather]
tick_s = 2.0
[archive]
team_labels = ["team"]
"""
MOMENTS = [b"now", b"2h", b"+30s", b"1.5d", b"2026-11-25T10:00:00", b"2026-11-25T10:00:00+02:00"]


def trusted_files() -> list[bytes]:
    keys = [
        {
            "key": key_id(one.name, one.public), "name": one.name, "role": role.value,
            "public": one.public.hex(), "from_ns": 0, "until_ns": 0,
        }
        for role, one in SIGNERS.items()
    ]  # fmt: skip  # as the file has it
    return [orjson.dumps({"v": 1, "keys": keys})]


def private_keys() -> list[bytes]:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    return [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]


def model_cards() -> list[bytes]:
    """Cards of the forest's file; some of another."""
    ours = {"features": NAMES, "sha256": digest(forest_file())}
    cards = [replace(one, **ours) for one in drawn(Manifest)[:6]] + list(drawn(Manifest)[:2])
    return [orjson.dumps({"manifest": orjson.loads(encode(one))}) for one in cards]


LOT = orjson.dumps({
    "format": 1, "number": 7, "cluster": "c", "day": "2026-11-25",
    "offsets": {"plimsoll.telemetry": {"0": [0, 9], "1": [3, 4]}},
    "next": {"plimsoll.telemetry": {"0": 9, "1": 4}}, "rows": {"samples": 900},
})  # fmt: skip  # as the archive writes it


# ---- rows of tables ---------------------------------------------------------------------------


@functools.cache
def lineage_rows() -> dict[str, bytes]:
    """A baseline that has lived: two versions, an open case, facts, blocks that wait."""
    kept = Path(__file__).parents[1] / "core/kept/state-0.1.0.json"
    return {name: bytes.fromhex(body) for name, body in orjson.loads(kept.read_bytes()).items()}


def governor_bench() -> Bench:
    """A governor with an incident that was ordered, answered and closed over."""
    bench = Bench()
    bench.take(finding(), finding(container=2, at_s=1.0), tick(2.0))
    bench.take(*(outcome(order) for order in bench.orders), tick(5.0))
    return bench


def incidents() -> list[bytes]:
    return [encode(one) for one in governor_bench().state.incidents.values()]


TABLE_ROWS = [Body(3, b"now" * 9, 2, b"before").encode(), Body(1, b"").encode()]
_WANTED = {"l": 3, "b/1": 4}
MARKERS = [
    Marker(4, {0: 7, 1: 9}, _WANTED).encode(),
    Marker(4, {0: 7}, _WANTED, NOW_NS, held({"l": b"body", "b/1": b"other"})).encode(),
]


def alert_messages() -> list[bytes]:
    """Headers and value of alerts, as one JSON object each."""
    from streams.alerts import wrapped

    made = [wrapped(alert) for alert in governor_bench().alerts]
    return [
        orjson.dumps({
            "headers": {name: body.decode() for name, body in one.headers},
            "value": orjson.loads(one.value),
        })
        for one in made
    ]  # fmt: skip  # one object each


def findings() -> list[Any]:
    """A compromise, seen in three containers of an image."""
    return [finding(container=at, at_s=float(at)) for at in range(1, 4)] + [
        replace(finding(), replicas=1)
    ]
