"""What each part may do to Kafka, and nothing else: the one list that commands, checks and
the page of it go by.

The words are Kafka's own. There, whoever may read or write a topic may describe it, too, and
whoever may alter its configuration may see that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from models.contract import READER, Topics
from models.errors import NotPermitted

Kind = Literal["topic", "group"]
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs", "AlterConfigs"]
Operations = tuple[Operation, ...]

READ: Final[Operations] = ("Read",)
WRITE: Final[Operations] = ("Write",)
BOTH: Final[Operations] = ("Read", "Write")
MANAGE: Final[Operations] = ("Create", "Describe", "AlterConfigs")

PARTS: Final[Mapping[str, str]] = {
    "collect": "`plimsoll collect`, on every host",
    "gather": "`plimsoll gather`",
    "worker": "`plimsoll worker`, `rebuild`",
    "govern": "`plimsoll govern`",
    "respond": "`plimsoll respond`, on every host",
    "archive": "`plimsoll archive`",
    "topics": "who lays out the topics: `plimsoll topics`",
    "operate": "who says words: `plimsoll incident`, `explain`",
    "train": "who trains and tries models: `plimsoll train`, `models`, `replay`, `baseline`",
    "teach": "who teaches baselines: `plimsoll baseline import` and `undo`",
    "follow": "whoever follows the alerts: `plimsoll alerts`, a SIEM",
}
"""Who gets an identity of its own, and what runs under it."""

_EVERY: Final = tuple(topic.removeprefix("plimsoll.") for topic in Topics().all())
_ROLES: Final[Mapping[str, Mapping[Operations, tuple[str, ...]]]] = {
    "collect": {WRITE: ("samples",)},
    "gather": {
        READ: ("samples",),
        BOTH: ("inventory",),
        WRITE: ("telemetry", "findings", "rejected"),
    },
    "worker": {READ: ("telemetry", "models"), WRITE: ("verdicts", "findings", "rejected")},
    "govern": {
        READ: ("findings", "control", "outcomes", "models"),
        WRITE: ("orders", "alerts", "control-state", "evidence", "telemetry", "rejected"),
    },
    "respond": {READ: ("orders", "samples"), WRITE: ("outcomes", "rejected")},
    "archive": {
        READ: (
            "telemetry", "inventory", "verdicts", "findings", "orders", "outcomes", "alerts",
            "evidence", "rejected",
        )
    },
    "topics": {MANAGE: _EVERY},
    "operate": {
        READ: (
            "control-state", "alerts", "rejected", "evidence", "telemetry", "verdicts",
            "findings", "models",
        ),
        WRITE: ("control",),
    },
    "train": {READ: ("telemetry", "verdicts", "findings", "orders"), BOTH: ("models",)},
    "teach": {READ: ("rejected",), WRITE: ("telemetry",)},
    "follow": {READ: ("alerts",)},
}  # fmt: skip  # a table
"""The topics of each part, by what it may do with them."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be done with one topic, or as a member of one consumer group."""

    kind: Kind
    name: str
    operations: Operations


@dataclass(frozen=True, slots=True)
class Names:
    """What a deployment calls its topics and groups."""

    topics: Topics = field(default_factory=Topics)
    gather: str = "plimsoll-gather"
    worker: str = "plimsoll-judge"
    governor: str = "plimsoll-governor"
    create_changelogs: bool = True


def permissions(part: str, names: Names) -> tuple[Permission, ...]:
    """All that one of PARTS needs. Grant no more.

    >>> permissions("collect", Names())
    (Permission(kind='topic', name='plimsoll.samples', operations=('Write',)),)
    """
    topics = (
        Permission("topic", names.topics.prefix + role, operations)
        for operations, roles in _ROLES[part].items() for role in roles
    )  # fmt: skip  # one expression
    return (*topics, *_of_groups(part, names))


def _of_groups(part: str, names: Names) -> Iterable[Permission]:
    """Groups that are joined, and the changelogs that two of them keep their state in."""
    kept: Operations = (*BOTH, "Create") if names.create_changelogs else BOTH
    baselines = f"{names.worker}-baselines-changelog"
    if part not in ("collect", "topics"):
        yield Permission("group", READER, ("Describe",))
    if part == "gather":
        yield Permission("group", names.gather, READ)
    elif part == "worker":
        yield Permission("topic", baselines, kept)
        yield Permission("group", names.worker, READ)
    elif part == "govern":
        yield Permission("topic", f"{names.governor}-incidents-changelog", kept)
        yield Permission("group", names.governor, READ)
    elif part in ("train", "teach"):
        yield Permission("topic", baselines, READ)


_REFUSED: Final = {29: "topic", 30: "group", 31: "topic"}
"""Codes of Kafka's protocol: TOPIC_, GROUP_ and CLUSTER_AUTHORIZATION_FAILED. The last is what
a producer hears that keeps its records in order and may write to no topic at all."""


def refused(
    code: int, who: str, operation: Operation, topic: str, group: str = READER
) -> NotPermitted | None:
    """What to say of an error with that code; None when it is about something else.

    ``operation`` is what we were about to do with the topic; of a group we are a member, or
    name it without being one.
    """
    kind = _REFUSED.get(code)
    if kind is None:
        return None
    if kind == "topic":
        return not_permitted(who, [Permission("topic", topic, (operation,))])
    needed: Operation = "Describe" if group == READER else "Read"
    return not_permitted(who, [Permission("group", group, (needed,))])


def not_permitted(who: str, missing: Sequence[Permission]) -> NotPermitted:
    """Who may not do what, all of it at once, and what to do."""
    told = "; ".join(f"{', '.join(p.operations)} {p.kind} {p.name}" for p in missing)
    return NotPermitted(
        f"Kafka does not let {who} do this: {told}. `plimsoll topics acls` prints what to grant; "
        "`plimsoll doctor` looks for all that is missing"
    )


def lacking(
    wanted: Iterable[Permission], granted: Mapping[tuple[str, str], Collection[str]]
) -> list[Permission]:
    """What of ``wanted`` is not granted; ``granted`` holds operations by kind and name.

    >>> wanted = permissions("collect", Names())
    >>> lacking(wanted, {("topic", "plimsoll.samples"): {"Describe"}}) == list(wanted)
    True
    """
    missing = []
    for one in wanted:
        found = granted[one.kind, one.name]
        left = tuple(operation for operation in one.operations if operation not in found)
        if left:
            missing.append(Permission(one.kind, one.name, left))
    return missing
