"""What ``collect`` and ``gather`` are told: environment, then file, then defaults.

``PLIMSOLL_GATHER__TICK_S=2`` is the same as ``tick_s = 2`` under ``[gather]`` in the file
that ``--config`` or PLIMSOLL_CONFIG names; flags win over both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from models.errors import ConfigurationError
from models.records.telemetry import Encoding
from models.settings import Kafka, given, read_file, tell_faults

ELSEWHERE: Final = frozenset(
    {"models_dir", "evidence_dir", "archive_dir", "responder_file", "logs", "topics", "worker"}
    | {"governor", "responder", "archive", "up"}
)
"""Names in the same file that the other side reads."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Period = Annotated[float, Field(ge=0.05, le=3_600)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Collect(Table):
    """``plimsoll collect``: one a host."""

    source: str = "docker"
    """The telemetry source: docker, simulated, or one that another package brings."""
    sample_period_s: Period = 1.0
    """Time between two samples of a container; a burst shorter than this is averaged away."""
    frame_interval_s: Period = 1.0
    """Time between two frames; longer ones cost less and say it later. At least the sample
    period."""
    pool: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "default"
    """The kind of machine: hosts of one pool are compared with each other."""
    host_root: Path = Path("/")
    """Where the host's file system is seen; ``/host`` when the collector is a container."""
    docker_host: str = "unix:///var/run/docker.sock"
    """The engine's socket."""
    files_interval_s: Seconds = 10.0
    """Time between two looks for changed files: they cost more than the rest together."""
    hash_most_bytes: Annotated[int, Field(ge=0)] = 64 << 20
    """Files up to this size are hashed; larger ones are told by size and times alone."""
    conntrack_accounting: bool = True
    """Switch on the kernel's byte counts of connections (nf_conntrack_acct) where they are
    off, as they are by default: without them nobody knows how much went to whom."""

    @model_validator(mode="after")
    def _frames_hold_samples(self) -> Self:
        if self.frame_interval_s < self.sample_period_s:
            raise ValueError(
                f"frame_interval_s is {self.frame_interval_s}, less than "
                f"sample_period_s {self.sample_period_s}: a frame would hold no sample"
            )
        return self


class Spool(Table):
    """Frames on disk while Kafka is away."""

    most_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    """Beyond this the oldest frame is given up, and the loss is told: the disk belongs to
    the host. The default holds a busy host for an hour."""
    drain_frames_per_s: Annotated[float, Field(gt=0)] = 50.0
    """How fast old frames follow once Kafka is back, so that a fleet's return is no flood."""


class Gather(Table):
    """``plimsoll gather``: frames to batches per image."""

    group: str = "plimsoll-gather"
    """The consumer group; all that share it share the work."""
    batch_samples: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """A batch is sent when it holds this many samples; more make a message too large."""
    batch_wait_ms: Annotated[int, Field(ge=0, le=10_000)] = 250
    """… or when its first sample has waited this long: what siblings do together is seen
    together."""
    encoding: Encoding = "binary"
    """How batches are written, ``json`` or ``binary`` (docs/records.md): the binary form costs
    the judge a fifth to read. Readers take both at any time."""
    clock: Literal["wall", "log"] = "wall"
    """What time it is: this machine's, or the newest that the frames' own timestamps tell,
    for recorded or simulated telemetry that does not run at the wall clock's pace."""
    tick_s: Seconds = 5.0
    """Time between two ticks to every partition: how soon silence is noticed downstream."""
    future_s: Seconds = 300.0
    """A frame dated later than this after its arrival is rejected: its clock is wrong."""
    silence_s: Seconds = 10.0
    """A host without a frame for this long, and for three intervals, is reported silent."""
    unknown_wait_s: Seconds = 10.0
    """How long samples wait for the inventory of their container."""
    places: tuple[Path, ...] = ()
    """Files of the MaxMind DB format (GeoLite2-Country, GeoLite2-ASN, DB-IP, IPinfo) that tell the
    country and the network of those whom containers talk to. Without one, neither is told."""


def _data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/plimsoll")
    return Path.home() / ".local/state/plimsoll"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="PLIMSOLL_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
    )

    scope: Annotated[str, Field(pattern=r"^[^/\s]{1,64}$")] = "default"
    """Tenant, environment or cluster: part of every key, so that staging never teaches
    production."""
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = "plimsoll."
    """What every topic's name begins with."""
    data_dir: Path = Field(default_factory=_data_dir)
    """Where our files lie unless said otherwise: /var/lib/plimsoll for root, else
    ~/.local/state/plimsoll."""
    keys_dir: Path = Field(default_factory=lambda data: data["data_dir"] / "keys")
    """Private keys (one file each, 0600), trusted.json, and the deployment's key for HMACs."""
    spool_file: Path = Field(default_factory=lambda data: data["data_dir"] / "spool.db")
    """The collector's spool."""
    kafka: Kafka = Kafka()
    collect: Collect = Collect()
    spool: Spool = Spool()
    gather: Gather = Gather()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, and that over the file; table by table."""
        tables = settings_cls.model_fields.keys() | ELSEWHERE
        file = read_file(os.environ.get("PLIMSOLL_CONFIG"), tables)
        return init_settings, env_settings, InitSettingsSource(settings_cls, file)


def load(**flags: Any) -> Settings:
    """The settings in force; ``flags`` by table: ``load(gather={"tick_s": 2.0})``.

    Raises: ConfigurationError, which names every fault at once.
    """
    try:
        return Settings(**given(flags))
    except ValidationError as found:
        raise ConfigurationError(tell_faults(found.errors())) from None
    except SettingsError as found:
        raise ConfigurationError(f"environment: {found}: {found.__cause__}") from found
    except RecursionError as found:
        raise ConfigurationError("environment: a value is nested too deeply") from found
