"""What the engine says of a container, as our inventory and boot identity."""

from __future__ import annotations

import calendar
import itertools
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.records.facts import BootIdentity
from models.records.inventory import InventoryEntry, State
from producers.sources.docker.secrecy import Secrecy, printable

ROLE_LABELS: Final = ("plimsoll.role", "com.docker.compose.service")
ONE_OFF_LABEL: Final = "com.docker.compose.oneoff"
REPLACES_LABEL: Final = "plimsoll.replaces"
_ANONYMOUS: Final = re.compile(r"[0-9a-f]{64}")
_STATES: Final = {"running": State.RUNNING, "restarting": State.RUNNING, "paused": State.PAUSED}
TOOLS_LABELS: Final = ("plimsoll.", "com.docker.", "org.opencontainers.")
MOST_LABELS: Final = 64
MOST_BYTES: Final = 16_384
"""Of each list of a boot identity: together they must fit one message."""


@dataclass(frozen=True, slots=True)
class Known:
    """A container as the engine describes it; ``pid`` is 0 while it doesn't run.

    ``shares`` names whose network it uses: empty for its own, ``host``, or a container.
    ``upper`` and ``lowers`` are the folders of its writable and read-only layers.
    """

    entry: InventoryEntry
    boot: BootIdentity
    pid: int
    shares: str
    upper: Path | None
    lowers: tuple[Path, ...]
    mounted: tuple[str, ...]
    healthcheck: str

    @property
    def subject(self) -> str:
        return self.entry.subject

    @property
    def alive(self) -> bool:
        return self.pid > 0 and self.entry.state in (State.RUNNING, State.PAUSED)


@dataclass(frozen=True, slots=True)
class Here:
    """Where we are: what every entry of this host says."""

    scope: str
    host: str


def known_of(
    inspected: Mapping[str, Any], digests: Iterable[str], here: Here, secrecy: Secrecy, now_ns: int
) -> Known:
    """``inspected`` is the engine's answer for a container, ``digests`` its image's
    ``RepoDigests``.
    """
    host_config, driver = inspected["HostConfig"], inspected.get("GraphDriver") or {}
    layers = driver.get("Data") or {} if driver.get("Name") == "overlay2" else {}
    mode = host_config.get("NetworkMode") or ""
    return Known(
        entry=_entry(inspected, digests, here, secrecy, now_ns),
        boot=boot_of(inspected, secrecy),
        pid=int(inspected["State"].get("Pid") or 0),
        shares="host" if mode == "host" else mode.removeprefix("container:") if ":" in mode else "",
        upper=Path(layers["UpperDir"]) if layers.get("UpperDir") else None,
        lowers=tuple(map(Path, filter(None, (layers.get("LowerDir") or "").split(":")))),
        mounted=tuple(mount["Destination"] for mount in inspected.get("Mounts") or ()),
        healthcheck=_healthcheck(inspected["Config"].get("Healthcheck") or {}),
    )


def image_of(name: str, image_id: str, digests: Iterable[str]) -> tuple[str, str]:
    """Image and lineage: ``repository@digest`` where the image has one, else a local name.

    >>> image_of("nginx:1.27", "sha256:aa", ["nginx@sha256:bb"])
    ('docker.io/library/nginx@sha256:bb', 'docker.io/library/nginx')
    >>> image_of("shop/cart:7", "sha256:aa", [])
    ('local/shop/cart@sha256:aa', 'local/shop/cart')
    >>> image_of("sha256:aa", "sha256:aa", [])
    ('sha256:aa', 'sha256:aa')
    """
    unnamed = name.startswith("sha256:") or (name and image_id.startswith(f"sha256:{name}"))
    named = [digest.partition("@") for digest in digests]
    wanted = repository(name)
    matching = [one for one in named if repository(one[0]) == wanted]
    if matching or (unnamed and named):
        found, _, digest = min(matching or named)
        return f"{repository(found)}@{digest}", repository(found)
    if unnamed or not name:
        return image_id, image_id
    local = f"local/{_untagged(name)}"
    return f"{local}@{image_id}", local


def repository(name: str) -> str:
    """A repository's full name, without tag or digest.

    >>> repository("nginx"), repository("ghcr.io/a/b:1@sha256:cc"), repository("localhost:5000/x:2")
    ('docker.io/library/nginx', 'ghcr.io/a/b', 'localhost:5000/x')
    """
    bare = _untagged(name)
    first, slash, _ = bare.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return bare
    return f"docker.io/{bare}" if slash else f"docker.io/library/{bare}"


def _untagged(name: str) -> str:
    bare = name.partition("@")[0]
    head, colon, tail = bare.rpartition(":")
    return head if colon and "/" not in tail else bare


def _entry(inspected: Mapping[str, Any], digests: Iterable[str], here: Here, secrecy: Secrecy,
           now_ns: int) -> InventoryEntry:  # fmt: skip  # one signature, two lines
    config, limits, state = inspected["Config"], inspected["HostConfig"], inspected["State"]
    labels = dict(config.get("Labels") or {})
    image, lineage = image_of(config.get("Image") or "", inspected["Image"], digests)
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    return InventoryEntry(
        scope=here.scope,
        subject=inspected["Id"],
        host=here.host,
        image=printable(image, 512),
        lineage=printable(lineage, 512),
        role=_role(labels),
        name=inspected.get("Name", "").lstrip("/"),
        state=_STATES.get(state.get("Status", ""), State.STOPPED),
        started_ns=time_ns(state.get("StartedAt") or ""),
        seen_ns=now_ns,
        labels=_told_labels(labels, secrecy),
        addresses=tuple(sorted(_addresses(networks.values()))),
        networks=tuple(sorted(networks)),
        memory_limit_bytes=max(int(limits.get("Memory") or 0), 0),
        cpu_limit_cores=_cpu_limit(limits),
        replaces=labels.get(REPLACES_LABEL, ""),
    )


def _role(labels: Mapping[str, str]) -> str:
    """What its image is used as. A command that ``docker compose run`` starts once is another
    use than the service whose name it bears: as that one's it would have changed at boot.

    >>> _role({"com.docker.compose.service": "web", "com.docker.compose.oneoff": "True"})
    'web (one-off)'
    """
    for label in ROLE_LABELS:
        if role := labels.get(label):
            service = label != ROLE_LABELS[0]
            one_off = service and labels.get(ONE_OFF_LABEL, "").lower() == "true"
            return printable(f"{role} (one-off)" if one_off else role, 512)
    return ""


def _told_labels(labels: Mapping[str, str], secrecy: Secrecy) -> dict[str, str]:
    """Labels are public by custom, and sometimes hold a password all the same. Those that
    tools write hold digests, which only look like one.
    """
    told: dict[str, str] = {}
    for name in sorted(labels)[:MOST_LABELS]:
        value = labels[name]
        hide = not name.startswith(TOOLS_LABELS)
        if value:
            value = secrecy.scrubbed(value)[:512] if hide else printable(value, 512)
        told[printable(name, 256)] = value
    return told


def _addresses(networks: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for network in networks:
        for name in ("IPAddress", "GlobalIPv6Address"):
            if network.get(name):
                yield network[name]


def _cpu_limit(limits: Mapping[str, Any]) -> float:
    if limits.get("NanoCpus"):
        return float(limits["NanoCpus"]) / 1e9
    quota, period = limits.get("CpuQuota") or 0, limits.get("CpuPeriod") or 100_000
    return quota / period if quota > 0 else 0.0


def boot_of(inspected: Mapping[str, Any], secrecy: Secrecy) -> BootIdentity:
    """All that decides how it starts, and nothing that differs from one start to the next."""
    config, host = inspected["Config"], inspected["HostConfig"]
    security = [*(host.get("SecurityOpt") or ())]
    if inspected.get("AppArmorProfile"):
        security.append(f"apparmor-profile={inspected['AppArmorProfile']}")
    return BootIdentity(
        image=inspected["Image"],
        command=_few(_words(config.get("Cmd"), secrecy), secrecy),
        entrypoint=_few(_words(config.get("Entrypoint"), secrecy), secrecy),
        environment=_environment(config.get("Env") or (), secrecy),
        mounts=_few(sorted(map(_mount, inspected.get("Mounts") or ())), secrecy),
        capabilities_added=tuple(sorted(host.get("CapAdd") or ())),
        capabilities_dropped=tuple(sorted(host.get("CapDrop") or ())),
        privileged=bool(host.get("Privileged")),
        user=printable(config.get("User") or " ", 256).strip(),
        read_only_root=bool(host.get("ReadonlyRootfs")),
        network_mode=_network_mode(host.get("NetworkMode") or ""),
        pid_mode=host.get("PidMode") or "",
        security_options=_few(sorted(_option(one, secrecy) for one in security), secrecy),
        devices=_few(sorted(map(_device, host.get("Devices") or ())), secrecy),
    )


def _words(command: Iterable[str] | None, secrecy: Secrecy) -> tuple[str, ...]:
    """Each word of a command, its secrets hidden; a flag hides the word behind it too."""
    words = list(command or ())
    told: list[str] = []
    for at, word in enumerate(words):
        pair = f"{words[at - 1]} {word}" if at and words[at - 1].startswith("-") else ""
        hidden = secrecy.scrubbed(pair) if pair else ""
        if pair and hidden != pair and hidden.startswith(f"{words[at - 1]} <hidden:"):
            told.append(hidden[len(words[at - 1]) + 1 :])
        else:
            told.append(secrecy.scrubbed(word) if word else "")
    return tuple(told)


def _environment(pairs: Iterable[str], secrecy: Secrecy) -> dict[str, str]:
    """Names, and what stands for their values; of very many, one stands for the last."""
    told, rest = _cut(sorted(pairs), secrecy)
    split = (pair.partition("=") for pair in told)
    found = {printable(name, 256): secrecy.hidden(value) for name, _, value in split}
    return {**found, rest: secrecy.hidden(rest)} if rest else found


def _few(items: Sequence[str], secrecy: Secrecy) -> tuple[str, ...]:
    """No more than a record can hold; what is left out still shows when it changes."""
    told, rest = _cut(items, secrecy)
    return (*told, rest) if rest else tuple(told)


def _cut(items: Sequence[str], secrecy: Secrecy) -> tuple[Sequence[str], str]:
    sizes = itertools.accumulate(len(item.encode("utf-8", "replace")) + 8 for item in items)
    fit = sum(size <= MOST_BYTES for size in sizes)
    left = len(items) - fit
    return items[:fit], f"… {left} more: {secrecy.hidden(chr(0).join(items[fit:]))}" if left else ""


def _option(option: str, secrecy: Secrecy) -> str:
    """The engine's clients send a whole seccomp profile along: its HMAC stands for it."""
    name, _, value = option.partition("=")
    return f"{name}=<hidden:{secrecy.hidden(value)[:12]}>" if len(option) > 256 else option


def _mount(mount: Mapping[str, Any]) -> str:
    """An anonymous volume has a new name at each creation: its name says nothing."""
    name = mount.get("Name") or ""
    source = "anonymous" if _ANONYMOUS.fullmatch(name) else name or mount.get("Source") or ""
    way = "rw" if mount.get("RW") else "ro"
    return printable(f"{mount.get('Type', 'bind')} {source} -> {mount['Destination']} {way}", 4096)


def _network_mode(mode: str) -> str:
    """Whose namespace is shared is an id, new at each deployment."""
    return "container" if mode.startswith("container:") else mode


def _device(device: Mapping[str, Any]) -> str:
    inside, rights = device.get("PathInContainer", ""), device.get("CgroupPermissions", "")
    return printable(f"{device.get('PathOnHost', '')} -> {inside} {rights}", 1024)


def _healthcheck(check: Mapping[str, Any]) -> str:
    """The command as the engine's exec events tell it; it is nobody's doing."""
    test = list(check.get("Test") or ())
    if test[:1] == ["CMD-SHELL"]:
        return " ".join(("/bin/sh -c", *test[1:]))
    return " ".join(test[1:]) if test[:1] == ["CMD"] else ""


def time_ns(text: str) -> int:
    """RFC 3339 with up to nine decimals as ns UTC; 0 for the engine's "never".

    >>> time_ns("2024-01-01T00:00:00.000000005Z"), time_ns("0001-01-01T00:00:00Z")
    (1704067200000000005, 0)
    """
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", text)
    if found is None or text.startswith("0001"):
        return 0
    seconds = calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S"))
    if found[3] != "Z":
        hours, minutes = int(found[3][1:3]), int(found[3][4:6])
        seconds -= (hours * 3600 + minutes * 60) * (1 if found[3][0] == "+" else -1)
    return seconds * 10**9 + int((found[2] or "0").ljust(9, "0"))
