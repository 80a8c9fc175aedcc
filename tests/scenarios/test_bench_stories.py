"""The confusion table still runs, and counts what it says: one small draw."""

from __future__ import annotations

import orjson

from infra.bench import stories
from models.records.verdict import Level
from producers.sources.simulated import STORIES


def test_every_story_of_a_draw_is_counted_once() -> None:
    """A table whose rows do not add up to its draws hides what went wrong."""
    result = stories.counted([1], 1, warm_up_s=200.0)

    made = stories.rows(result.endings)
    assert result.draws == 1
    assert set(made) == {story.name for story in STORIES}
    assert all(sum(row[level.value] for level in Level) == 1 for row in made.values())
    assert all(sum(row[o] for o in ("none", "redeploy", "isolate")) == 1 for row in made.values())
    assert made["dropped-program"]["compromised"], "even a short life knows a proof"
    assert orjson.dumps(stories._document(result))
