"""What the demo on a real engine may touch: its own containers, whoever else runs here."""

from __future__ import annotations

from infra.demo.deployment import policy
from infra.demo.stories import STORIES, lineage
from models.policy import Mode, read_policy
from models.records.order import Action
from models.records.verdict import Level
from tests.core.governing import finding


def asked(run: str, image: str, level: Level) -> Action:
    """What the policy of one run asks for, for a container of this image."""
    return read_policy(policy(run)).action_for(finding(level, lineage=image).verdict)


def test_each_story_gets_the_answer_that_it_expects() -> None:
    """Otherwise the demo would be wrong whatever the detection says."""
    assert read_policy(policy("demo-1")).mode is Mode.ENFORCE
    for story in STORIES:
        if story.action is not None:
            image = lineage("demo-1", story.service)
            assert asked("demo-1", image, story.expected) is story.action


def test_another_demos_containers_are_not_touched() -> None:
    """Two may be told at once, and one machine may run more than demos."""
    for image in (lineage("demo-2", "orders"), "local/web", "registry/shop/cart"):
        assert asked("demo-1", image, Level.COMPROMISED) is Action.ANNOTATE
