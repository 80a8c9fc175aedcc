"""Two models side by side, from what workers counted or by judging a window with each."""

from __future__ import annotations

from typing import Any

from models.contract import Topics
from models.records.verdict import Shadow, Summary

Rows = list[dict[str, Any]]
Window = tuple[int, int]


def by_shadow(settings: Any, _registry: Any, pair: list[str], window: Window) -> Rows:
    """Samples past the line by the forest alone, by image, while one shadowed the other."""
    from streams.stores.decided import said

    joint: dict[str, Shadow] = {}
    active = "" if pair[0] == "none" else pair[0]
    for one in said(settings.kafka, Topics(settings.topic_prefix), window[0]):
        if not isinstance(one, Summary) or one.shadow is None or one.scope != settings.scope:
            continue
        mine = one.model == active and one.shadow.model == pair[1]
        if mine and window[0] <= one.at_ns < window[1]:
            before = joint.get(one.image)
            joint[one.image] = one.shadow if before is None else before.joined(one.shadow)
    return [_counted(image, joint[image]) for image in sorted(joint)]


def _counted(image: str, shadow: Shadow) -> dict[str, Any]:
    correlation = shadow.correlation()
    return {
        "image": image,
        "samples": shadow.samples,
        "past_the_line_by_both": shadow.both,
        "only_by_one": shadow.active_only,
        "only_by_other": shadow.shadow_only,
        "correlation": None if correlation is None else round(correlation, 3),
    }


def by_replay(settings: Any, registry: Any, pair: list[str], window: Window) -> Rows:
    """Alarms that each model would raise, by image; the same alarm has the same id."""
    was, be = (_alarms(settings, registry, model, window) for model in pair)
    images = sorted(set(was.values()) | set(be.values()))
    return [
        {
            "image": image,
            "alarms_by_both": sum(of == image for uid, of in was.items() if uid in be),
            "only_by_one": sum(of == image for uid, of in was.items() if uid not in be),
            "only_by_other": sum(of == image for uid, of in be.items() if uid not in was),
        }
        for image in images
    ]


def _alarms(settings: Any, registry: Any, model: str, window: Window) -> dict[str, str]:
    """Alarm → image."""
    from models.policy import Policy
    from streams.commands.progress import reading
    from streams.commands.replay import core_of_the_time, telemetry_of, with_model
    from streams.replaying import replayed

    then = core_of_the_time(settings, registry)
    with reading(f"judging with {model}") as progress:
        source = telemetry_of(settings, progress)
        asked = with_model(then, registry, model)
        would = replayed(source, asked, Policy(), settings.scope, window, then)
    return {one.verdict.uid: one.verdict.image for one in would.alarms()}
