"""``python -m tests.core.figures``: how fast, how often right, how quiet; as JSON lines.

Not part of the suite: it takes minutes, and its figures depend on the machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections import Counter

import numpy as np

from models import features
from models.detectors.forest import Forest
from models.pipeline import Arrival, Core, Models, judge
from models.records.samples import Samples
from models.records.telemetry import Batch, Member
from models.records.verdict import Level
from models.state import LineageState
from models.training import fit
from tests.core.fleet import (
    CHARACTERS,
    NAMES,
    START_NS,
    STORIES,
    TWINS,
    Lineage,
    Watch,
)

FOREST = Forest(fit(np.random.default_rng(0).normal(size=(5000, 15)), features.NAMES, 1))


def say(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")


def speed() -> None:
    """Microseconds of one core; the forest a row, judging a sample."""
    rows = np.random.default_rng(1).normal(size=(1000, features.SIZE))
    for count in (1, 10, 100, 1000):
        best = min(_timed(lambda n=count: FOREST.surprise(rows[:n])) for _ in range(20)) / count
        say(forest_rows=count, us_a_row=round(best * 1e6, 2))
    for groups, calls in ((1, 200), (50, 12)):
        for forests in ((), ((0, FOREST),)):
            spent = _judging(groups, calls, Core(Models(forests)))
            say(groups=groups, forest=bool(forests), us_a_sample=round(spent * 1e6, 2))
        spent = _judging(groups, calls, Core(Models(((0, FOREST),), ((0, FOREST),))))
        say(groups=groups, forest=True, shadow=True, us_a_sample=round(spent * 1e6, 2))


def _timed(call: object) -> float:
    began = time.perf_counter()
    call()  # type: ignore[operator]  # a lambda
    return time.perf_counter() - began


def _judging(groups: int, calls: int, core: Core) -> float:
    """Batches of 100 samples, 20 members each."""
    states: dict[str, LineageState] = {}
    made = [_arrivals(groups, call) for call in range(calls)]
    for arrivals in made[: calls // 4]:
        states.update(judge(states, arrivals, core).states)
    began = time.process_time()
    for arrivals in made[calls // 4 :]:
        states.update(judge(states, arrivals, core).states)
    return (time.process_time() - began) / ((calls - calls // 4) * groups * 100)


def _arrivals(groups: int, call: int) -> list[Arrival]:
    rng = np.random.default_rng(call)
    usual = np.array([0.3, 0.01, 2e8, 0.3, 1e4, 1e4, 2e4, 6e4, 50, 90, 5, 4, 4])[:, None]
    index = np.tile(np.arange(20), 5)
    times = START_NS + (call * 5 + np.repeat(np.arange(5), 20)) * 10**9
    made = []
    for group in range(groups):
        members = tuple(
            Member(f"{group}-{n:060d}", "h", f"im/{group}@x", "", START_NS - 10**12)
            for n in range(20)
        )
        values = usual * np.exp(rng.normal(0, 0.1, size=(13, 100)))
        samples = Samples(NAMES, tuple(m.subject for m in members), index, times, values)
        batch = Batch("d", f"im/{group}", "", members, samples, 1.0)
        made.append(Arrival(batch.group, batch, batch.at_ns))
    return made


def stories(seeds: int) -> None:
    """Each story and twin, on each kind of image, at both sample periods."""
    for step_s, warm_s in ((1.0, 85.0), (5.0, 1800.0)):
        for kind in CHARACTERS:
            right: Counter[str] = Counter()
            for seed in range(seeds):
                base, watch = Lineage(kind, seed, step_s), Watch()
                watch.run([base], warm_s)
                for name in (*STORIES, *TWINS):
                    again = Watch(Core(), dict(watch.states))
                    right[name] += _right(name, copy.deepcopy(base), again)
            say(kind=kind, step_s=step_s, seeds=seeds, right=dict(right))


def _right(name: str, lineage: Lineage, watch: Watch) -> bool:
    begin_s = lineage.now_s + lineage.step_s
    if name in TWINS:
        watch.run([lineage], 240, TWINS[name](begin_s))
        return watch.worst().rank <= Level.WATCH.rank
    make, level, within_s = STORIES[name]
    watch.run([lineage], within_s, make(begin_s))
    return watch.reached(lineage.pods[0].member.subject, level, begin_s) is not None


def quiet(hours: float, seed: int) -> None:
    """Six lineages of four containers at 5 s."""
    kinds = (*CHARACTERS, "web")
    lineages = [Lineage(kind, seed, 5.0, name=f"q{at}/{kind}") for at, kind in enumerate(kinds)]
    watch = Watch()
    watch.run(lineages, hours * 3600)
    levels = Counter(str(finding.verdict.level) for finding in watch.findings)
    loud = [
        f"{finding.verdict.lineage}: {finding.verdict.reasons[0].text}"
        for finding in watch.findings
        if finding.verdict.level.rank > Level.WATCH.rank
    ]
    say(quiet_hours=hours, seed=seed, findings=dict(levels), above_watch=loud)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "stories", "quiet"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--hours", type=float, default=24.0)
    asked = parser.parse_args()
    if asked.what == "speed":
        speed()
    elif asked.what == "stories":
        stories(asked.seeds)
    else:
        quiet(asked.hours, asked.seeds)
