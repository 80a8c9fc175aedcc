"""What judge, governor, responder and the commands are told: environment, file, defaults.

``PLIMSOLL_WORKER__COMMIT_INTERVAL_S=1`` is the same as ``commit_interval_s = 1`` under
``[worker]`` in the file that ``--config`` or PLIMSOLL_CONFIG names; flags win over both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from models.budget import Scope
from models.detection import DETECTORS, Detection, Detector
from models.errors import ConfigurationError
from models.settings import Kafka, given, read_file, tell_faults

ELSEWHERE: Final = frozenset({"spool_file", "collect", "spool", "gather"})
"""Names in the same file that the other side reads."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Days = Annotated[float, Field(gt=0, le=36_500)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Logs(Table):
    """What is said on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is said."""
    form: Literal["auto", "json", "text"] = "auto"
    """One JSON object a line, or text for a person; auto: text on a terminal only."""


class TopicPlan(Table):
    """How ``plimsoll topics create`` lays out the topics."""

    partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Of every keyed topic. Keys never move: choose for the largest number of workers that
    you will want, for it can't be changed later without losing what was learned."""
    replication: Annotated[int, Field(ge=0, le=10)] = 0
    """Copies of each partition; 0 leaves it to the broker's default.replication.factor. Use
    3 where there are three brokers; two of them must then have what is acknowledged."""
    create_changelogs: bool = True
    """Workers create their own changelog topics. False where only an administrator may, and
    on librdkafka's embedded broker, which creates what is written to."""
    most_bytes: Annotated[int, Field(ge=1 << 16)] = 4 << 20
    """The largest message; a batch of 1,000 samples takes about 200 KB."""
    telemetry_days: Days = 3.0
    """Samples and telemetry: how far back a replay or a post-mortem can look."""
    findings_days: Days = 30.0
    """Verdicts, findings, control words, orders, outcomes, alerts and rejected records."""
    evidence_days: Days = 1_095.0
    """Chains of exhibits: three years, as auditors ask."""


class Worker(Table):
    """``plimsoll worker``: judges."""

    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "plimsoll-judge"
    """The Faust app's id: consumer group and prefix of the changelog topic. Another id
    begins with nothing learned."""
    commit_interval_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    """Time between commits; state is written once a commit, a crash repeats at most this."""
    session_timeout_s: Annotated[float, Field(ge=6, le=300)] = 15.0
    """After this without a heartbeat others take over; shorter mistakes a pause for death."""
    stuck_s: Annotated[float, Field(ge=5, le=3_600)] = 60.0
    """A worker that has work and gets nowhere for this long ends itself, to be restarted."""
    alarms_per_day: Annotated[float, Field(gt=0, le=100_000)] = 10.0
    """False alarms that may be raised in 24 h of event time, of what budget_scope says."""
    budget_scope: Scope = Scope.FLEET
    """Of the whole fleet, or of each lineage, image or container."""
    budget_lineages: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Among how many lineages (in one role each, hosts' pools too) a fleet's budget is split
    evenly: stated, so that a replay splits alike; `plimsoll baseline list` shows how many there
    are. Too many here makes for fewer alarms, too few for more."""
    detectors: Annotated[tuple[Detector, ...], Field(min_length=1)] = DETECTORS
    """What weighs magnitudes. Fewer cost less and find less; without ``distance`` siblings are
    judged apart. Facts count, and what is normal is learned, whatever is left out."""
    metrics_port: Port = 0
    """Prometheus metrics on loopback; 0: none."""

    @property
    def detection(self) -> Detection:
        """What the judge is told; replay, training and notebooks too."""
        return Detection(
            budget_alarms_per_day=self.alarms_per_day, budget_scope=self.budget_scope,
            budget_lineages=self.budget_lineages, detectors=self.detectors,
        )  # fmt: skip  # by subject


class Governor(Table):
    """``plimsoll govern``: turns findings into orders."""

    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "plimsoll-governor"
    """The Faust app's id: consumer group and prefix of its changelog topic."""
    policy_file: Path | None = None
    """The reviewed policy (TOML, docs/policy.md); without one the defaults hold."""
    mode: Literal["observe", "approve", "enforce"] | None = None
    """Overrides the policy file's mode. Neither given: observe, which orders nothing."""
    without_replay: str = ""
    """Why a policy may enforce that has not passed `plimsoll replay --record`. Empty: it may
    not; a person approves each act instead."""
    signing_key: str = "governor"
    """The private key in keys_dir that signs orders and evidence."""
    commit_interval_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    """Time between commits; an order leaves before its finding is committed, never after."""
    session_timeout_s: Annotated[float, Field(ge=6, le=300)] = 15.0
    """After this without a heartbeat the standby takes over."""
    stuck_s: Annotated[float, Field(ge=5, le=3_600)] = 60.0
    """A governor that has work and gets nowhere for this long ends itself."""
    metrics_port: Port = 0
    """Prometheus metrics on loopback; 0: none."""


class Responder(Table):
    """``plimsoll respond``: one beside each container runtime."""

    platform: str = "docker"
    """The responder, by its name in the entry points ``plimsoll.responders``."""
    host: str = ""
    """The host (machine id) whose orders are carried out; empty: this machine's."""
    docker_host: str = "unix:///var/run/docker.sock"
    """The engine's socket."""
    ttl_s: Annotated[float, Field(ge=10, le=30 * 86_400)] = 3600.0
    """The longest that anything stays isolated without a new signed word; an order may ask
    for less. It ends by itself, also without Kafka and governor."""
    runtime_timeout_s: Seconds = 10.0
    """An engine that takes longer to answer one call counts as unreachable."""
    evidence_s: Seconds = 1.0
    """Evidence that vanishes once we act may hold an act up for this long at most; what is not
    there by then is left out, and said."""
    metrics_port: Port = 0
    """Prometheus metrics on loopback; 0: none."""


class Archiving(Table):
    """``plimsoll archive``: topics to Parquet files; what reports are made from."""

    lot_s: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """Seconds of the log in one set of files; queries and reports see what is older. The
    first sets after a start are shorter, so that a report has numbers within its first minute."""
    lot_mb: Annotated[int, Field(ge=1, le=16_384)] = 128
    """A set of files ends before its time when it is this large (MB, compressed): what lies
    unfinished is written anew after a crash."""
    keep_days: Annotated[int, Field(ge=0, le=36_500)] = 62
    """Whole days older than this are deleted, evidence too, of which its topic has the original;
    0: nothing is. Two months, to compare one with the one before."""
    team_labels: tuple[str, ...] = ("team", "owner", "com.docker.compose.project")
    """Container labels that say whose it is; the first that a container has counts."""
    metrics_port: Port = 0
    """Prometheus metrics on loopback; 0: none."""


class Up(Table):
    """``plimsoll up``: all parts on one machine."""

    parts: tuple[Literal["archive", "respond", "govern", "worker", "gather", "collect"], ...] = (
        "archive",
        "respond",
        "govern",
        "worker",
        "gather",
        "collect",
    )
    """Started in this order, stopped in reverse: what reads is there before what writes."""
    restart_after_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Pause before a part that died is started again; doubles with each death in a row."""
    restart_after_most_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """The longest such pause; a part that lived this long begins again with the shortest."""
    stop_within_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """A part that has not ended this long after SIGTERM is killed."""


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
    models_dir: Path = Field(default_factory=lambda data: data["data_dir"] / "models")
    """Model files, named by their SHA-256; shared by trainer and workers."""
    evidence_dir: Path = Field(default_factory=lambda data: data["data_dir"] / "evidence")
    """Large exhibits, a folder an incident; best not on the host that is under suspicion."""
    archive_dir: Path = Field(default_factory=lambda data: data["data_dir"] / "archive")
    """Telemetry, verdicts, acts and evidence as Parquet files by day: what `plimsoll query` and
    reports read. A million samples take 30 to 100 MB, a million connections 10 MB."""
    responder_file: Path = Field(default_factory=lambda data: data["data_dir"] / "responder.db")
    """The responder's own store: offsets, what it did, when it ends. Losing it forgets what
    must be released."""
    logs: Logs = Logs()
    kafka: Kafka = Kafka()
    topics: TopicPlan = TopicPlan()
    worker: Worker = Worker()
    governor: Governor = Governor()
    responder: Responder = Responder()
    archive: Archiving = Archiving()
    up: Up = Up()

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
    """The settings in force; ``flags`` by table: ``load(worker={"commit_interval_s": 1.0})``.

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
