"""What a user's budget comes to for one image: counted from the lineage's own state alone.

How many lineages there are is stated, not counted: a worker knows those of its own partitions,
and these change hands, so a count would judge otherwise in a replay.
"""

from __future__ import annotations

from models import budget
from models.detection import Detection
from models.lineage import Image, LineageState


def daily(state: LineageState, image: Image, detection: Detection) -> float:
    """False alarms a day that the image's line may let through."""
    siblings = max(len(state.members), 1)
    members = siblings
    if len(state.images) > 1:
        members = max(sum(member.image == image.name for member in state.members.who), 1)
    return budget.share(
        detection.budget_alarms_per_day, detection.budget_scope, members=members,
        siblings=max(siblings, members), lineages=detection.budget_lineages,
    )  # fmt: skip  # one call


def of_member(state: LineageState, image: Image, detection: Detection) -> float:
    """The same for each of its containers."""
    if len(state.images) == 1:
        return daily(state, image, detection) / max(len(state.members), 1)
    members = sum(member.image == image.name for member in state.members.who)
    return daily(state, image, detection) / max(members, 1)
