"""``python -m tests.core.figures``: how fast, how often right, how quiet; as JSON lines.

Not part of the suite: it takes minutes, and its figures depend on the machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from sklearn.ensemble import IsolationForest

from models import features
from models.detectors.forest import Forest
from models.features import Array
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

Call = Callable[[Array], object]
FOREST = Forest(fit(np.random.default_rng(0).normal(size=(5000, 15)), features.NAMES, 1))


def say(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")


def speed() -> None:
    """Microseconds of one core; the forest a row, judging a sample."""
    for size, tails in ((12, "light"), (features.SIZE, "light"), (features.SIZE, "heavy")):
        _forest_speed(size, tails)
    for groups, calls in ((1, 200), (50, 12)):
        for forests in ((), ((0, FOREST),)):
            spent = _judging(groups, calls, Core(Models(forests)))
            say(groups=groups, forest=bool(forests), us_a_sample=round(spent * 1e6, 2))
        spent = _judging(groups, calls, Core(Models(((0, FOREST),), ((0, FOREST),))))
        say(groups=groups, forest=True, shadow=True, us_a_sample=round(spent * 1e6, 2))


def _forest_speed(size: int, tails: str) -> None:
    """Our forest and scikit-learn's, by turns in one run, on rows that differ from call to call."""
    rng = np.random.default_rng(0)
    draw = (
        rng.normal(size=(10_000, size)) if tails == "light" else rng.standard_t(2, (10_000, size))
    )
    single = draw.astype(np.float32)
    seen, rows = single[:5000], single[5000:].astype(np.float64)
    trees = fit(seen.astype(np.float64), tuple(str(at) for at in range(size)), 1)
    began = time.process_time()
    ours = Forest(trees)
    built = time.process_time() - began
    theirs = IsolationForest(n_estimators=100, max_samples=256, random_state=1).fit(seen)
    off = np.abs(ours.scores(rows) - theirs.score_samples(single[5000:])).max()
    say(features=size, tails=tails, built_ms=round(built * 1e3, 1), off_at_most=float(off))
    for count in (1, 10, 100, 1000):
        calls: dict[str, Call] = {
            "us_a_row": ours.surprise,
            "shares_us_a_row": ours.shares,
            "scikit_learn_us_a_row": lambda some: theirs.score_samples(some.astype(np.float32)),
        }
        spent = _by_turns(calls, rows, count)
        say(features=size, tails=tails, forest_rows=count, **spent)


def _by_turns(calls: dict[str, Call], rows: Array, count: int) -> dict[str, float]:
    """Medians of CPU time a row, in microseconds."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(51):
        for name, call in calls.items():
            often = 1 if name.startswith("scikit") else max(1000 // count, 5)
            places = [
                (turn * often + nth) * count % (len(rows) - count + 1) for nth in range(often)
            ]
            began = time.process_time()
            for at in places:
                call(rows[at : at + count])
            spent[name].append((time.process_time() - began) * 1e6 / (often * count))
    return {name: round(statistics.median(each), 2) for name, each in spent.items()}


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
