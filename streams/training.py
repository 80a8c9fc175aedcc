"""A forest from telemetry read back: what the judge saw is what it learns from.

The log is judged anew without a forest, in its order; the deviations on the way are the
training rows. No labels, no second path: the very functions that judge live.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Final

import numpy as np

from models.detectors.forest import Forest, Trees
from models.drift import drifts
from models.errors import PlimsollError
from models.features import NAMES, Array
from models.modelfile import digest, save
from models.pipeline import Core, Models, deviations
from models.records.manifest import Evaluation, Manifest, Stage
from models.records.telemetry import Batch, Tick
from models.records.verdict import Finding
from models.replay import Recorded, Replay, Source
from models.training import fit
from streams.stores.window import TelemetryLog

MOST_ROWS: Final = 50_000
LEAST_ROWS: Final = 256
LEAST_OWN_ROWS: Final = 4_096
"""A lineage has earned a forest of its own once it has given as many rows as sixteen trees draw:
fewer are one morning of one container, and the fleet's forest knows more."""
SKIPPED: Final = 0.3
"""The first part of the window only teaches the baselines: deviations from a baseline that
knows nothing yet tell nothing."""
HELD_OUT: Final = 0.3
"""The last part of the window is kept from training, to try the model on."""
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999, 1.0)

Progress = Callable[[float], None]


class TooLittle(PlimsollError):
    """The window holds too few samples to train on."""


@dataclass(frozen=True, slots=True)
class Window:
    """Training rows and where they come from."""

    rows: Array
    from_ns: int
    until_ns: int
    records: int
    offsets: dict[str, tuple[int, ...]] = field(default_factory=dict)


def train(
    window: Window, scope: str, *, now_ns: int, active_from_ns: int, seed: int = 0
) -> tuple[Manifest, bytes]:
    """A forest of the window's rows: its manifest, active from a stated event time, and its
    file. The same window and seed give the same file.

    Raises: TooLittle.
    """
    manifest, content, _ = _made(window, scope, now_ns, seed)
    return replace(manifest, stage=Stage.ACTIVE, active_from_ns=active_from_ns), content


def candidate(
    source: Source, scope: str, from_ns: int, until_ns: int, *, now_ns: int, seed: int = 0,
    core: Core | None = None, lineage: str = "",
) -> tuple[Manifest, bytes]:  # fmt: skip  # two lines read better than five
    """A candidate trained on the earlier part of what arrived in ``[from_ns, until_ns)`` and
    tried on the later one. With a ``lineage``, a forest of its own, on its rows alone.

    Raises: TooLittle.
    """
    split_ns = until_ns - int((until_ns - from_ns) * HELD_OUT)
    replay, of = Replay(core or Core(), at_once=1), _Of(source, lineage)
    seen = gathered(replay, of, scope, from_ns, split_ns)
    if lineage and len(seen.rows) < LEAST_OWN_ROWS:
        raise TooLittle(
            f"{lineage}: {len(seen.rows)} usable samples in the window; a forest of its own takes "
            f"{LEAST_OWN_ROWS}: take a longer window, or leave it to the fleet's"
        )
    manifest, content, trees = _made(seen, scope, now_ns, seed)
    held_out = (split_ns, until_ns)
    evaluation = evaluated(replay, of, scope, Forest(trees), held_out, seen.rows)
    made = replace(manifest, evaluation=evaluation, offsets=dict(source.offsets), lineage=lineage)
    return made, content


class _Of:
    """A source without what is of other lineages, where one is named."""

    def __init__(self, source: Source, lineage: str) -> None:
        self._source, self._lineage = source, lineage
        self.span, self.partitions = source.span, source.partitions

    @property
    def offsets(self) -> dict[str, tuple[int, ...]]:
        return self._source.offsets

    def records(
        self, from_ns: int, until_ns: int, partitions: Sequence[int] = ()
    ) -> Iterator[Recorded]:
        for one in self._source.records(from_ns, until_ns, partitions):
            record = one.record
            if isinstance(record, Tick) or self._lineage in ("", record.lineage):
                yield one


def window(
    kafka: Mapping[str, str], topic: str, scope: str, *, core: Core | None = None,
    progress: Progress = lambda _share: None,
) -> Window:  # fmt: skip  # two lines read better than five
    """Judge all telemetry of one scope that the topic holds now, and keep its deviations.

    Raises: BrokerUnreachable.
    """
    source = TelemetryLog(kafka, topic, progress)
    return gathered(Replay(core or Core(), at_once=1), source, scope, 0, 0)


def gathered(replay: Replay, source: Source, scope: str, from_ns: int, until_ns: int) -> Window:
    """The training rows of a window; ``replay`` ends where the window does."""
    rows, records, times_ns = _Thinned(), 0, [2**63 - 1, 0]

    def seen(one: Recorded) -> None:
        nonlocal records
        record = one.record
        records += not isinstance(record, Tick)
        if isinstance(record, Batch):
            times_ns[:] = min(times_ns[0], record.at_ns), max(times_ns[1], record.at_ns)
            rows.add(record.at_ns, deviations(replay.of(one), record, replay.core))

    for _ in replay.run(_of_scope(source, scope, from_ns, until_ns), seen):
        pass
    since_ns = times_ns[0] + int((times_ns[1] - times_ns[0]) * SKIPPED)
    return Window(rows.since(since_ns), times_ns[0], times_ns[1], records, dict(source.offsets))


def evaluated(
    before: Replay, source: Source, scope: str, forest: Forest, window: tuple[int, int],
    trained: Array,
) -> Evaluation:  # fmt: skip  # two lines read better than five
    """What the forest would have said of a window that follows the one that ``before`` has
    judged, and what would have been said without any; how far rows moved from ``trained``.
    """
    ours = Replay(replace(before.core, models=Models(((0, forest),))), at_once=1)
    ours.states = {place: dict(states) for place, states in before.states.items()}
    surprises: list[Array] = []
    held_out = _Thinned()

    def seen(one: Recorded) -> None:
        if isinstance(one.record, Batch):
            rows = deviations(ours.of(one), one.record, ours.core)
            surprises.append(forest.surprise(rows))
            held_out.add(one.record.at_ns, rows)

    with_it = _rising(ours, _of_scope(source, scope, *window), seen)
    without = _rising(before, _of_scope(source, scope, *window))
    every = np.concatenate(surprises) if surprises else np.empty(0)
    later = held_out.since(0)
    return Evaluation(
        *window, len(every),
        {f"{q:g}": round(float(np.quantile(every, q)), 3) for q in QUANTILES if len(every)},
        _count(one.verdict.level.value for one in with_it),
        _count(one.verdict.level.value for one in without),
        _count(one.verdict.image for one in with_it),
        drifts(trained, later, NAMES) if len(later) else {},
    )  # fmt: skip  # as the fields lie


def _rising(
    replay: Replay, records: Iterable[Recorded],
    seen: Callable[[Recorded], None] = lambda _one: None,
) -> list[Finding]:  # fmt: skip  # two lines say as much
    judged = replay.run(records, seen)
    return [finding for one in judged for finding in one.findings if finding.rises]


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names))


def _of_scope(source: Source, scope: str, from_ns: int, until_ns: int) -> Iterator[Recorded]:
    return (
        one for one in source.records(from_ns, until_ns)
        if isinstance(one.record, Tick) or one.record.scope == scope
    )  # fmt: skip  # one condition


class _Thinned:
    """Rows with their time, every n-th of them once there are too many."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, Array]] = []
        self._held, self._met, self._every = 0, 0, 1

    def add(self, at_ns: int, rows: Array) -> None:
        first = -self._met % self._every
        self._met += len(rows)
        kept = rows[first :: self._every]
        if len(kept):
            self._parts.append((at_ns, kept))
            self._held += len(kept)
        if self._held > 4 * MOST_ROWS:
            self._parts = [(at, rows[::2]) for at, rows in self._parts if len(rows[::2])]
            self._held = sum(len(rows) for _, rows in self._parts)
            self._every *= 2

    def since(self, since_ns: int) -> Array:
        rows = [part for at_ns, part in self._parts if at_ns >= since_ns]
        if not rows:
            return np.empty((0, len(NAMES)))
        joint = np.concatenate(rows)
        return joint[:: max(1, -(-len(joint) // MOST_ROWS))]


def _made(window: Window, scope: str, now_ns: int, seed: int) -> tuple[Manifest, bytes, Trees]:
    if len(window.rows) < LEAST_ROWS:
        raise TooLittle(
            f"{len(window.rows)} usable samples in the window, needed are {LEAST_ROWS}: take a "
            "longer window, or wait"
        )
    trees = fit(window.rows, NAMES, seed)
    content = save(trees)
    sha256 = digest(content)
    uid = f"forest-{sha256[:12]}"
    manifest = Manifest(
        uid=uid, scope=scope, stage=Stage.CANDIDATE, algorithm="isolation-forest",
        features=NAMES, sha256=sha256, size_bytes=len(content), trained_ns=now_ns,
        active_from_ns=0, rows=len(window.rows), from_ns=window.from_ns,
        until_ns=window.until_ns, offsets=window.offsets, versions=_versions(),
        detail={"seed": str(seed), "trees": str(len(trees.leaf)), "records": str(window.records)},
    )  # fmt: skip  # one thought a line
    return manifest, content, replace(trees, uid=uid)


def _versions() -> dict[str, str]:
    """What a forest depends on besides its rows and seed."""
    found = {name: version(name) for name in ("plimsoll", "numpy", "scikit-learn")}
    return found | {"python": platform.python_version()}
