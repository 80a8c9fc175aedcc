"""The images of the simulated fleet: a shop, and what each of its parts is like.

Only lineages without callers have a demand of their own; all others get what their callers
send them. So load travels through the fleet as it does through a real one: what a caller
sends is what the called one receives, and siblings share it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

MIB: Final = 1 << 20
KIB: Final = 1 << 10
REGISTRY: Final = "registry.example"

OUTSIDE: Final[dict[str, tuple[str, ...]]] = {
    "card-network": ("192.0.2.40", "192.0.2.41"),
    "mail-relay": ("192.0.2.60", "192.0.2.61"),
    "object-store": ("192.0.2.90", "192.0.2.91", "192.0.2.92"),
    "feature-flags": ("192.0.2.140",),
    "registry": ("192.0.2.10",),
    "metrics": ("192.0.2.20",),
}
"""Services outside of the fleet, by name: documentation addresses (RFC 5737)."""

CLIENTS: Final = "clients"
SITES: Final = "sites"
CROWDS: Final[dict[str, int]] = {CLIENTS: 4_000, SITES: 30_000}
"""Crowds of peers, few of them frequent: how many there are. They live in 198.18.0.0/15
(RFC 2544)."""


@dataclass(frozen=True, slots=True)
class Link:
    """Calls from one part to another (a profile's name) or to somewhere outside."""

    to: str
    port: int
    calls_per_request: float
    sent_bytes: float
    received_bytes: float
    calls_per_connection: float = 20.0
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Profile:
    """One version of one image: how its containers behave when nothing is wrong."""

    name: str
    port: int
    replicas: int
    programs: tuple[tuple[str, str], ...]
    command: tuple[str, ...]
    demand_per_s: float = 0.0
    clients: bool = False
    reply_bytes: float = 0.0
    links: tuple[Link, ...] = ()
    errands: tuple[tuple[str, str], ...] = ()
    idle_cores: float = 0.01
    cpu_s_per_request: float = 1e-3
    start_cpu_cores: float = 0.4
    start_s: float = 15.0
    memory_base_bytes: float = 60 * MIB
    memory_fill_bytes: float = 40 * MIB
    fill_time_s: float = 300.0
    memory_limit_bytes: int = 512 * MIB
    cpu_limit_cores: float = 2.0
    disk_read_bytes_per_request: float = 0.0
    disk_write_bytes_per_request: float = 120.0
    processes: int = 5
    rhythm_depth: float = 0.35
    rhythm_peak_h: float = 15.0
    restless: float = 0.12
    volumes: tuple[str, ...] = ()
    changing_files: tuple[str, ...] = ()
    version: int = 1

    @property
    def lineage(self) -> str:
        return f"{REGISTRY}/shop/{self.name}"


def _shell(*programs: str) -> tuple[tuple[str, str], ...]:
    """A main program and those that it starts."""
    return tuple((program, programs[0] if at else "") for at, program in enumerate(programs))


_CHECK: Final = (("/bin/busybox", "/usr/bin/docker-init"),)

CATALOGUE: Final[tuple[Profile, ...]] = (
    Profile(
        "edge", 443, 3, _shell("/usr/sbin/nginx"), ("nginx", "-g", "daemon off;"),
        demand_per_s=150, clients=True, reply_bytes=14_000, cpu_s_per_request=4e-4,
        links=(Link("web", 8080, 0.6, 900, 9_000, 60), Link("api", 8081, 0.4, 1_100, 3_000, 60)),
        memory_base_bytes=30 * MIB, memory_fill_bytes=12 * MIB, memory_limit_bytes=256 * MIB,
        changing_files=("/var/log/nginx/access.log",),
    ),
    Profile(
        "web", 8080, 4, _shell("/usr/sbin/php-fpm8.2"), ("php-fpm8.2", "-F"),
        links=(
            Link("catalog", 8082, 0.8, 500, 4_000, 30),
            Link("cart", 8083, 0.25, 700, 1_500, 30),
            Link("cache", 6379, 2.0, 120, 900, 400),
        ),
        errands=_CHECK, cpu_s_per_request=6e-3, memory_base_bytes=140 * MIB,
        memory_fill_bytes=60 * MIB, processes=9,
        changing_files=("/tmp/sess",),  # noqa: S108  # a path in the simulation
    ),
    Profile(
        "api", 8081, 4, _shell("/usr/local/bin/node"), ("node", "server.js"),
        links=(
            Link("cart", 8083, 0.5, 900, 1_400, 30),
            Link("payments", 8084, 0.12, 1_200, 900, 15),
            Link("cache", 6379, 1.0, 120, 700, 400),
        ),
        errands=_CHECK, cpu_s_per_request=4e-3, memory_base_bytes=120 * MIB, processes=11,
    ),
    Profile(
        "catalog", 8082, 3, _shell("/usr/bin/java"), ("java", "-jar", "/app/catalog.jar"),
        links=(Link("cache", 6379, 0.7, 140, 1_800, 400),), errands=_CHECK,
        cpu_s_per_request=3e-3, start_cpu_cores=1.2, start_s=25, memory_base_bytes=310 * MIB,
        memory_fill_bytes=90 * MIB, memory_limit_bytes=768 * MIB, processes=34,
    ),
    Profile(
        "cart", 8083, 4, _shell("/usr/local/bin/python3.11"), ("gunicorn", "cart:app"),
        links=(
            Link("cache", 6379, 1.5, 300, 500, 400),
            Link("orders-db", 5432, 0.4, 420, 1_300, 200),
        ),
        cpu_s_per_request=5e-3, memory_base_bytes=95 * MIB, processes=6,
        changing_files=("/app/run/gunicorn.pid",),
    ),
    Profile(
        "payments", 8084, 4, _shell("/app/payments"), ("/app/payments", "--serve"),
        links=(
            Link("card-network", 443, 1.0, 2_400, 1_900, 2),
            Link("ledger", 8085, 1.0, 800, 400, 20),
        ),
        cpu_s_per_request=8e-3, memory_base_bytes=45 * MIB, memory_fill_bytes=15 * MIB,
    ),
    Profile(
        "ledger", 8085, 3, _shell("/app/ledger"), ("/app/ledger",),
        links=(Link("orders-db", 5432, 2.0, 500, 300, 200),), cpu_s_per_request=4e-3,
        memory_base_bytes=50 * MIB, volumes=("/var/lib/ledger:/data:rw",),
    ),
    Profile(
        "search", 9200, 4, _shell("/usr/bin/java"), ("java", "-jar", "/app/search.jar"),
        demand_per_s=60, clients=True, reply_bytes=6_000, cpu_s_per_request=9e-3,
        start_cpu_cores=1.5, start_s=25, memory_base_bytes=420 * MIB, memory_fill_bytes=80 * MIB,
        memory_limit_bytes=1024 * MIB, disk_read_bytes_per_request=9_000, processes=41,
    ),
    Profile(
        "cache", 6379, 3, _shell("/usr/local/bin/redis-server"), ("redis-server",),
        cpu_s_per_request=6e-5, memory_base_bytes=20 * MIB, memory_fill_bytes=240 * MIB,
        fill_time_s=150, start_cpu_cores=0.1, start_s=5, cpu_limit_cores=1.0,
        disk_write_bytes_per_request=4, errands=(("/usr/local/bin/redis-cli", "/bin/busybox"),),
    ),
    Profile(
        "orders-db", 5432, 3, _shell("/usr/lib/postgresql/16/bin/postgres"), ("postgres",),
        cpu_s_per_request=9e-4, memory_base_bytes=160 * MIB, memory_fill_bytes=120 * MIB,
        memory_limit_bytes=1024 * MIB, disk_read_bytes_per_request=2_500,
        disk_write_bytes_per_request=1_800, processes=14, restless=0.1,
        errands=(("/usr/lib/postgresql/16/bin/pg_isready", "/bin/busybox"),),
        volumes=("/var/lib/orders:/var/lib/postgresql/data:rw",),
    ),
    Profile(
        "queue", 5672, 3, _shell("/opt/erlang/bin/beam.smp"), ("rabbitmq-server",),
        cpu_s_per_request=6e-4, memory_base_bytes=130 * MIB, memory_fill_bytes=30 * MIB,
        disk_write_bytes_per_request=900, processes=4,
    ),
    Profile(
        "thumbnails", 9000, 4, _shell("/usr/bin/vips-worker"), ("vips-worker",),
        demand_per_s=12, rhythm_peak_h=14, cpu_s_per_request=6e-2, restless=0.2,
        links=(
            Link("queue", 5672, 1.0, 200, 600, 500),
            Link("object-store", 443, 0.9, 24_000, 110_000, 8),
        ),
        memory_base_bytes=80 * MIB,
        changing_files=("/tmp/vips/tile",),  # noqa: S108  # a path in the simulation
    ),
    Profile(
        "notifier", 9001, 4, _shell("/usr/local/bin/ruby"), ("ruby", "notify.rb"),
        demand_per_s=20, cpu_s_per_request=5e-3,
        links=(
            Link("queue", 5672, 1.0, 180, 700, 500),
            Link("mailer", 2525, 0.5, 6_000, 300, 5),
        ),
        memory_base_bytes=110 * MIB, memory_fill_bytes=50 * MIB,
    ),
    Profile(
        "mailer", 2525, 3, _shell("/usr/lib/postfix/sbin/master", "/usr/lib/postfix/sbin/smtp"),
        ("postfix", "start-fg"), cpu_s_per_request=3e-3, processes=8,
        links=(Link("mail-relay", 587, 1.0, 7_500, 600, 4),),
        memory_base_bytes=35 * MIB, changing_files=("/var/spool/postfix/active",),
        disk_write_bytes_per_request=7_000,
    ),
    Profile(
        "crawler", 9002, 3, _shell("/usr/local/bin/python3.11"), ("python3.11", "crawl.py"),
        demand_per_s=9, rhythm_depth=0.1, restless=0.25, cpu_s_per_request=2e-2,
        links=(
            Link(SITES, 443, 1.0, 900, 60_000, 1.5),
            Link("object-store", 443, 0.2, 60_000, 500, 6),
        ),
        memory_base_bytes=90 * MIB, processes=7,
        changing_files=("/tmp/pages/page",),  # noqa: S108  # a path in the simulation
    ),
    Profile(
        "reports", 9003, 3, _shell("/usr/local/bin/python3.11"), ("python3.11", "reports.py"),
        demand_per_s=1.5, rhythm_peak_h=3, restless=0.3, cpu_s_per_request=0.12,
        links=(
            Link("orders-db", 5432, 4.0, 600, 22_000, 40),
            Link("object-store", 443, 0.3, 90_000, 700, 3),
        ),
        memory_base_bytes=150 * MIB, disk_write_bytes_per_request=40_000,
        errands=(("/usr/bin/gzip", "/usr/local/bin/python3.11"),),
    ),
)  # fmt: skip  # a catalogue reads better in rows


def next_version(profile: Profile, dearer: float = 1.5, larger: float = 1.3) -> Profile:
    """What the next release of an image is like: so many times the work a request and the
    memory, a helper program of its own, and a service that it had never called.
    """
    return replace(
        profile,
        version=profile.version + 1,
        programs=(*profile.programs, ("/usr/local/bin/flagd", profile.programs[0][0])),
        links=(*profile.links, Link("feature-flags", 443, 0.05, 700, 2_600, 10)),
        cpu_s_per_request=profile.cpu_s_per_request * dearer,
        memory_base_bytes=profile.memory_base_bytes * larger,
        processes=profile.processes + 4,
    )


def callers_first(catalogue: tuple[Profile, ...]) -> tuple[str, ...]:
    """The parts' names, each after all that call it.

    Raises: ValueError when calls go round in a circle.

    >>> callers_first(CATALOGUE).index("edge") < callers_first(CATALOGUE).index("web")
    True
    """
    names = {profile.name for profile in catalogue}
    calls = {p.name: {link.to for link in p.links} & names for p in catalogue}
    found: list[str] = []
    while calls:
        free = [name for name in calls if not any(name in called for called in calls.values())]
        if not free:
            raise ValueError(f"parts that call each other in a circle: {', '.join(calls)}")
        found += free
        calls = {name: called for name, called in calls.items() if name not in free}
    return tuple(found)
