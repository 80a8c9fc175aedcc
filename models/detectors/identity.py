"""How a container starts, aspect by aspect, against how its image always has.

Environment values are HMACs, and differ for good reasons: each name is an aspect of its own,
a name whose value differs between siblings says nothing, and no value is ever shown. Where a
mount comes from may differ as well, by replica or release, unless it is the host itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

import orjson

from models.detectors.rarity import PROOF, STRONG, WEAK
from models.records.facts import BootIdentity

ASPECTS: Final = (
    "command", "entrypoint", "capabilities_added", "capabilities_dropped", "privileged", "user",
    "read_only_root", "network_mode", "pid_mode", "security_options", "devices",
)  # fmt: skip  # a list
MOUNTS: Final = "mount points"
SOURCES: Final = "mount sources"
_HOSTS_OWN: Final = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys",
    "/usr", "/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", "/var/run",
)  # fmt: skip  # a list
"""What gives power over the host to whom it is mounted."""
MOST_VARIANTS: Final = 4
"""An aspect that was seen in more ways than this says nothing."""
MOST_NAMES: Final = 128
_ENVIRONMENT: Final = "environment "
_LOADING: Final = re.compile(
    r"LD_(PRELOAD|LIBRARY_PATH|AUDIT)|DYLD_.+|GCONV_PATH|PATH|BASH_ENV|ENV|PROMPT_COMMAND"
    r"|CLASSPATH|PHPRC|PHP_INI_SCAN_DIR|PYTHON(PATH|HOME|STARTUP)|NODE_PATH|RUBYLIB"
    r"|(NODE|RUBY|_JAVA|JDK_JAVA|JAVA_TOOL)_?(OPTIONS|OPT)|PERL(5OPT|5LIB|LIB)"
    r"|DOTNET_STARTUP_HOOKS|COR(ECLR)?_PROFILER.*|(HTTPS?|ALL)_PROXY",
    re.IGNORECASE,
)
"""What in an environment makes a program run other code, or send what it sends by another way.

Source: MITRE ATT&CK, T1574 (hijack execution flow), for most of them.
"""

Starts = dict[str, tuple[str, ...]]


def digests(boot: BootIdentity) -> dict[str, str]:
    """A short digest for each aspect."""
    made = {aspect: _digest(getattr(boot, aspect)) for aspect in ASPECTS}
    made[MOUNTS], made[SOURCES] = map(_digest, _mounted(boot.mounts))
    names = sorted(boot.environment or {})[:MOST_NAMES]
    return made | {_ENVIRONMENT + name: _digest((boot.environment or {})[name]) for name in names}


def _mounted(mounts: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is mounted where, and from where that comes.

    >>> _mounted(["bind /srv/web-3 -> /data rw", "bind /etc -> /host ro", "volume db -> /db rw"])
    (['bind -> /data rw', 'bind /etc -> /host ro', 'volume -> /db rw'], ['/srv/web-3', 'db'])
    """
    points, sources = [], []
    for mount in mounts:
        origin, arrow, point = mount.partition(" -> ")
        kind, _, source = origin.partition(" ")
        if not arrow or _is_the_hosts(source):
            points.append(mount)
        else:
            points.append(f"{kind} -> {point}")
            sources.append(source)
    return points, sources


def _is_the_hosts(source: str) -> bool:
    """Whether it lies in what is the host's own, or holds some of it, as ``/`` and ``/var`` do."""
    mounted = f"{source.rstrip('/')}/"
    return any(
        mounted.startswith(f"{path}/") or f"{path}/".startswith(mounted) for path in _HOSTS_OWN
    )


def _digest(value: object) -> str:
    body = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(body, digest_size=6).hexdigest()


def changed(starts: Starts, boot: BootIdentity) -> list[str]:
    """The aspects in which this start differs from every one seen; none where none was.

    >>> first = digests(BootIdentity("shop/cart@sha256:1"))
    >>> known = {aspect: (digest,) for aspect, digest in first.items()}
    >>> changed(known, BootIdentity("shop/cart@sha256:1", privileged=True))
    ['privileged']
    """
    if not starts:
        return []
    found = [
        aspect
        for aspect, digest in digests(boot).items()
        if digest not in _usual(aspect, digest, starts) and not _varies(aspect, starts)
    ]
    if MOUNTS in found and SOURCES in found:
        found.remove(SOURCES)  # a new mount comes from somewhere, too
    return found


def _usual(aspect: str, digest: str, starts: Starts) -> tuple[str, ...]:
    """What was seen of an aspect. Of one that the release before did not look at nothing is
    known, so that anything is usual; a new name in the environment is new all the same.
    """
    return starts.get(aspect, () if aspect.startswith(_ENVIRONMENT) else (digest,))


def _varies(aspect: str, starts: Starts) -> bool:
    differs = aspect == SOURCES or aspect.startswith(_ENVIRONMENT)
    return len(starts.get(aspect, ())) >= (2 if differs else MOST_VARIANTS)


def learn(starts: Starts, boot: BootIdentity) -> None:
    """Take this start as one of the image's usual ones."""
    for aspect, digest in digests(boot).items():
        seen = starts.get(aspect, ())
        if digest not in seen and len(seen) < MOST_VARIANTS:
            starts[aspect] = (*seen, digest)


def grade(aspects: list[str]) -> int:
    """How loud a change is: a proof, but for the environment and where mounts come from. There
    another source, or what a program loads, is suspect; other settings are only a word.
    """
    names = [one.removeprefix(_ENVIRONMENT) for one in aspects if one.startswith(_ENVIRONMENT)]
    sources = [one for one in aspects if one == SOURCES]
    if len(names) + len(sources) < len(aspects):
        return PROOF
    return STRONG if sources or any(map(_LOADING.fullmatch, names)) else WEAK


def told(aspects: list[str], boot: BootIdentity) -> str:
    """The sentence for a person; values of the environment are not in it."""
    shown = (
        aspect
        if aspect.startswith(_ENVIRONMENT)
        else f"{aspect.replace('_', ' ')} {_shown(boot, aspect)}"
        for aspect in aspects
    )
    return f"started otherwise than its image ever has: {'; '.join(shown)}"[:1000]


def _shown(boot: BootIdentity, aspect: str) -> str:
    value = boot.mounts if aspect in (MOUNTS, SOURCES) else getattr(boot, aspect)
    if isinstance(value, tuple):
        return ", ".join(value)[:200] or "none"
    return str(value)[:200] or "none"
