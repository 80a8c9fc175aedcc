"""What Kafka lets us do: asked of the broker, for our own identity, without rights of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, get_args

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from models.contract import Topics
from models.permissions import Names, Operation, Permission, lacking, not_permitted, refused
from models.settings import ANONYMOUS, Kafka, principal_of

_ASK_S: Final = 10.0
_REFUSED: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
)
_ALL: Final = frozenset(get_args(Operation))


def names_of(settings: Any) -> Names:
    """What the deployment calls its topics and groups; gather's only where its settings are
    among these.
    """
    names = Names(
        Topics(settings.topic_prefix), worker=settings.worker.group,
        governor=settings.governor.group, create_changelogs=settings.topics.create_changelogs,
    )  # fmt: skip  # one line a thought
    gather = getattr(settings, "gather", None)
    return names if gather is None else replace(names, gather=gather.group)


def missing(kafka: Kafka, wanted: Sequence[Permission]) -> list[Permission]:
    """What of ``wanted`` Kafka does not let us do; what can't be told is left out.

    Raises: KafkaException when it does not answer.
    """
    admin = AdminClient({**kafka.librdkafka(), "log_level": 0})
    granted: dict[tuple[str, str], set[str]] = {}
    topics = [one.name for one in wanted if one.kind == "topic"]
    if topics:
        found = admin.describe_topics(
            TopicCollection(topics), include_authorized_operations=True, request_timeout=_ASK_S
        )
        granted |= {("topic", name): _operations(one) for name, one in found.items()}
    for group in (one.name for one in wanted if one.kind == "group"):
        granted["group", group] = _of_group(admin, group)
    for one in wanted:
        if "Create" in one.operations and not _may_create(admin, one.name):
            granted[one.kind, one.name].discard("Create")
    return lacking(wanted, granted)


def _moving(problem: BaseException) -> bool:
    return isinstance(problem, KafkaException) and problem.args[0].code() in (
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
    )


@retry(
    retry=retry_if_exception(_moving), stop=stop_after_delay(_ASK_S),
    wait=wait_fixed(0.2), reraise=True,
)  # fmt: skip  # two lines
def _of_group(admin: AdminClient, group: str) -> set[str]:
    """The same for a consumer group, whose coordinator may be on its way to another broker."""
    asked = admin.describe_consumer_groups(  # it takes one group a call
        [group], include_authorized_operations=True, request_timeout=_ASK_S
    )
    return _operations(asked[group])


def _operations(future: Any) -> set[str]:
    """What we may do with a topic or group, as far as it is told."""
    try:
        found = future.result(_ASK_S).authorized_operations
    except KafkaException as problem:
        code = problem.args[0].code()
        if code in _REFUSED:  # we can't even see it; the rest depends
            return set(_ALL - {"Read", "Write", "Describe"})
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return set(_ALL)
        raise
    return set(_ALL) if found is None else {_word(one.name) for one in found}


def _word(name: str) -> str:
    """Kafka's ``ALTER_CONFIGS`` as its pages spell it: ``AlterConfigs``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _may_create(admin: AdminClient, topic: str) -> bool:
    """Asked without doing it; that it is there already is no obstacle."""
    asked = admin.create_topics([NewTopic(topic, 1)], validate_only=True, request_timeout=_ASK_S)
    try:
        asked[topic].result(_ASK_S)
    except KafkaException as problem:
        return problem.args[0].code() not in _REFUSED
    return True


def heed(
    problem: KafkaError | None, config: Mapping[str, Any], operation: Operation, topic: str
) -> None:
    """Raises: NotPermitted, where the error tells that we may not do that with the topic."""
    refusal = refused(problem.code(), principal_of(config), operation, topic) if problem else None
    if refusal is not None:
        raise refusal


def explained(
    problem: KafkaError | None, config: Mapping[str, Any], operation: Operation, topic: str
) -> str:
    """What to log of an error that is met while doing that with the topic."""
    assert problem is not None
    refusal = refused(problem.code(), principal_of(config), operation, topic)
    return problem.str() if refusal is None else str(refusal)


@contextmanager
def permitted(kafka: Kafka, wanted: Sequence[Permission]) -> Iterator[None]:
    """Before a part begins, and once it has failed: which right does it lack?

    Raises: NotPermitted, which names each. A Kafka that does not answer is none of ours, nor
    one to which we are nobody in particular.
    """
    if kafka.principal == ANONYMOUS:
        yield
        return
    _check(kafka, wanted)
    try:
        yield
    except SystemExit as end:
        if end.code:
            _check(kafka, wanted)
        raise
    except BaseException:
        _check(kafka, wanted)
        raise


def _check(kafka: Kafka, wanted: Sequence[Permission]) -> None:
    try:
        found = missing(kafka, wanted)
    except KafkaException:
        return
    if found:
        raise not_permitted(kafka.principal, found)
