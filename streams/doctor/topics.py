"""Are the topics there, and laid out as the settings plan them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from streams.doctor.base import Case, Check, Found, State
from streams.topics import Found as FoundTopic
from streams.topics import Planned, compare, plan

_ASK_S: Final = 10.0
_CREATE: Final = "plimsoll topics create"
_UPDATE: Final = "plimsoll topics create --update"


def _topics(case: Case) -> Iterator[Found]:
    """Those that the parts use. What they may not see is the next check's business."""
    used = {one.name for one in case.wanted() if one.kind == "topic"}
    planned = plan(case.names.topics, case.settings.topics)
    admin = AdminClient({**case.kafka.librdkafka(), "log_level": 0})
    found: dict[str, FoundTopic] = {}
    looked: list[Planned] = []
    asked = TopicCollection([one.name for one in planned if one.name in used])
    answers = admin.describe_topics(asked, request_timeout=_ASK_S)
    for topic in planned:
        if topic.name not in answers:
            continue
        try:
            partitions = answers[topic.name].result(_ASK_S).partitions
        except KafkaException as problem:
            if problem.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                looked.append(topic)
            elif problem.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                yield Found(f"topic {topic.name}", problem.args[0].str(), "ask again",
                            State.UNKNOWN)  # fmt: skip  # two lines
            continue
        looked.append(topic)
        config = _config(admin, topic)
        found[topic.name] = FoundTopic(len(partitions), topic.config if config is None else config)
        headless = [one.id for one in partitions if one.leader is None or one.leader.id < 0]
        if headless:
            yield Found(f"topic {topic.name}", f"partitions {headless} have no leader",
                        "look after the brokers that hold them")  # fmt: skip  # two lines
    for one in compare(tuple(looked), found):
        yield _told(one.topic, one.what, one.planned, one.found)


def _config(admin: AdminClient, topic: Planned) -> dict[str, str] | None:
    """None where we may not see it."""
    resource = ConfigResource(ResourceType.TOPIC, topic.name)
    (asked,) = admin.describe_configs([resource], request_timeout=_ASK_S).values()
    try:
        return {entry.name: entry.value for entry in asked.result(_ASK_S).values()}
    except KafkaException:
        return None


def _told(topic: str, what: str, planned: str, found: str) -> Found:
    about = f"topic {topic}"
    if what == "topic":
        return Found(about, "it does not exist", _CREATE)
    if what == "partitions":
        return Found(
            about, f"it has {found} partitions, planned are {planned}",
            f"set topics.partitions to {found}; else make it anew: keys never move, what was "
            "learned would be in the wrong partition",
        )  # fmt: skip  # what, why, what to do
    return Found(about, f"{what} is {found}, planned {planned}", _UPDATE)


TOPICS: Final = Check("topics", "are they there, laid out as planned?", _topics, ("login",))
