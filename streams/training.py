"""A model from telemetry read back: what the judge saw is what it learns from.

The log is judged anew without a model, in its order; the deviations on the way are what its
forest is trained on, what containers were like are its histories. No labels, no second path:
the very functions that judge live.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Final

import numpy as np

from models import calibration
from models.detectors.forest import Forest, Trees
from models.drift import drifts
from models.errors import PlimsollError
from models.features import NAMES, Array
from models.history import History
from models.lineage import LineageState
from models.modelfile import digest, save
from models.pipeline import Core, Models, deviations, look
from models.records.manifest import Evaluation, Manifest, Stage
from models.records.telemetry import Batch, Tick
from models.records.verdict import Finding, Level
from models.replay import Recorded, Replay, Source
from models.training import fit
from streams.histories import Histories
from streams.stores.window import TelemetryLog

MOST_ROWS: Final = 50_000
LEAST_ROWS: Final = 256
LEAST_OWN_ROWS: Final = 4_096
"""What a forest of a lineage's own takes at least, before it is held against the fleet's: as many
rows as sixteen trees draw. Fewer are one morning of one container."""
SKIPPED: Final = 0.3
"""The first part of the window only teaches the baselines: deviations from a baseline that
knows nothing yet tell nothing."""
HELD_OUT: Final = 0.3
"""The last part of the window is kept from training, to try the model on."""
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999, 1.0)

Progress = Callable[[float], None]


class TooLittle(PlimsollError):
    """The window holds too few samples to train on."""


class NotEarned(PlimsollError):
    """A lineage's own forest tells what is rare there no better than the fleet's."""


@dataclass(frozen=True, slots=True)
class Window:
    """Training rows and where they come from; ``fleet``: those of all lineages, where ``rows`` are
    of one; ``histories``: what quiet times taught of each group, but for the ``groups_left_out``
    of which a model file has no room.
    """

    rows: Array
    from_ns: int
    until_ns: int
    records: int
    offsets: dict[str, tuple[int, ...]] = field(default_factory=dict)
    fleet: Array | None = None
    histories: Mapping[str, History] = field(default_factory=dict)
    groups_left_out: int = 0


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
    tried on the later one. With a ``lineage``, a forest of its own, on its rows alone: if on
    the quiet rows held out it keeps its promises (models/calibration.py) better than one
    trained on the whole fleet's rows of that window.

    Raises: TooLittle, NotEarned.
    """
    split_ns = until_ns - int((until_ns - from_ns) * HELD_OUT)
    replay = Replay(core or Core(), at_once=1)
    seen = gathered(replay, source, scope, from_ns, split_ns, lineage)
    if lineage and len(seen.rows) < LEAST_OWN_ROWS:
        raise TooLittle(
            f"{lineage}: {len(seen.rows)} usable samples in the window; a forest of its own takes "
            f"{LEAST_OWN_ROWS}: take a longer window, or leave it to the fleet's"
        )
    manifest, content, trees = _made(seen, scope, now_ns, seed)
    fleet = None if seen.fleet is None else Forest(fit(seen.fleet, NAMES, seed))
    tried = Trial(Forest(trees), fleet)
    held_out, of = (split_ns, until_ns), _Of(source, lineage)
    evaluation = evaluated(replay, of, scope, tried, held_out, seen.rows)
    if lineage:
        tried.must_be_earned(lineage)
    made = replace(manifest, evaluation=evaluation, offsets=dict(source.offsets), lineage=lineage)
    return made, content


class Trial:
    """What a forest, and the fleet's where it is to come before that, say of what was held out."""

    def __init__(self, forest: Forest, fleet: Forest | None = None) -> None:
        self.forest, self._fleet = forest, fleet
        self.rows = _Thinned()
        self._every: list[Array] = []
        self._quiet: list[Array] = []
        self._by_fleet: list[Array] = []

    def add(self, at_ns: int, rows: Array, *, quiet: bool) -> None:
        self.rows.add(at_ns, rows)
        said = self.forest.surprise(rows)
        self._every.append(said)
        if quiet:
            self._quiet.append(said)
            if self._fleet is not None:
                self._by_fleet.append(self._fleet.surprise(rows))

    @property
    def every(self) -> Array:
        return _joint(self._every)

    @property
    def quiet(self) -> Array:
        return _joint(self._quiet)

    @property
    def by_fleet(self) -> Array:
        return _joint(self._by_fleet)

    def must_be_earned(self, lineage: str) -> None:
        """Raises: TooLittle, NotEarned."""
        rows = len(self.quiet)
        if rows < calibration.LEAST_ROWS:
            raise TooLittle(
                f"{lineage}: {rows} quiet samples held out; to hold its forest against the fleet's "
                f"takes {calibration.LEAST_ROWS}: take a longer or a quieter window"
            )
        won = calibration.stretches_won(self.quiet, self.by_fleet)
        if won < calibration.STRETCHES:
            own, fleet = (calibration.rarer(said) for said in (self.quiet, self.by_fleet))
            counts = "; ".join(
                f"one in {one}: {own[one]}, {fleet[one]}, {rows / one:.0f}" for one in own
            )
            raise NotEarned(
                f"{lineage} has not earned a forest of its own: of {rows} quiet samples held out, "
                f"how many its own calls rarer, how many the fleet's does, how many should be: "
                f"{counts}. Its own is {calibration.off(self.quiet):.2f} off, the fleet's "
                f"{calibration.off(self.by_fleet):.2f}, and better without {won} of "
                f"{calibration.STRETCHES} stretches: take a longer window, or leave it to the "
                "fleet's"
            )


def _joint(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.empty(0)


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


def gathered(
    replay: Replay, source: Source, scope: str, from_ns: int, until_ns: int, lineage: str = ""
) -> Window:
    """The training rows of a window; ``replay`` ends where the window does."""
    rows, fleet, records, times_ns = _Thinned(), _Thinned(), 0, [2**63 - 1, 0]
    histories = Histories()

    def seen(one: Recorded) -> None:
        nonlocal records
        record = one.record
        if isinstance(record, Tick):
            return
        ours = lineage in ("", record.lineage)
        records += ours
        if isinstance(record, Batch):
            times_ns[:] = min(times_ns[0], record.at_ns), max(times_ns[1], record.at_ns)
            states = replay.of(one)
            found = look(states, record, replay.core)
            if lineage:
                fleet.add(record.at_ns, found.deviations)
            if ours:
                rows.add(record.at_ns, found.deviations)
                if _quiet(states.get(record.group)):
                    histories.add(record.group, record.at_ns, found.seen)
                else:
                    histories.doubt(record.group, record.at_ns)

    for _ in replay.run(_of_scope(source, scope, from_ns, until_ns), seen):
        pass
    since_ns = times_ns[0] + int((times_ns[1] - times_ns[0]) * SKIPPED)
    return Window(
        rows.since(since_ns), times_ns[0], times_ns[1], records, dict(source.offsets),
        fleet.since(since_ns) if lineage else None, histories.learned(), len(histories.left_out),
    )  # fmt: skip  # as the fields lie


def evaluated(
    before: Replay, source: Source, scope: str, tried: Trial, window: tuple[int, int],
    trained: Array,
) -> Evaluation:  # fmt: skip  # two lines read better than five
    """What the forest would have said of a window that follows the one that ``before`` has
    judged, and what would have been said without any; how far rows moved from ``trained``.
    """
    ours = Replay(replace(before.core, models=Models(((0, tried.forest),))), at_once=1)
    ours.states = {place: dict(states) for place, states in before.states.items()}

    def seen(one: Recorded) -> None:
        if isinstance(one.record, Batch):
            states = before.of(one)
            rows = deviations(states, one.record, before.core)
            tried.add(one.record.at_ns, rows, quiet=_quiet(states.get(one.record.group)))

    without = _rising(before, _of_scope(source, scope, *window), seen)
    with_it = _rising(ours, _of_scope(source, scope, *window))
    every, later = tried.every, tried.rows.since(0)
    return Evaluation(
        *window, len(every),
        {f"{q:g}": round(float(np.quantile(every, q)), 3) for q in QUANTILES if len(every)},
        _count(one.verdict.level.value for one in with_it),
        _count(one.verdict.level.value for one in without),
        _count(one.verdict.image for one in with_it),
        drifts(trained, later, NAMES) if len(later) else {},
        len(tried.quiet), _rarer(tried.quiet), _rarer(tried.by_fleet),
    )  # fmt: skip  # as the fields lie


def _quiet(state: LineageState | None) -> bool:
    """Whether none of its containers was called when the row came."""
    cases = () if state is None else state.cases.values()
    return all(case.level < Level.CORRUPTED.rank for case in cases)


def _rarer(surprise: Array) -> dict[str, int]:
    return {str(one): count for one, count in calibration.rarer(surprise).items()}


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
    trees = replace(fit(window.rows, NAMES, seed), histories=window.histories)
    content = save(trees)
    sha256 = digest(content)
    uid = f"forest-{sha256[:12]}"
    manifest = Manifest(
        uid=uid, scope=scope, stage=Stage.CANDIDATE, algorithm="isolation-forest",
        features=NAMES, sha256=sha256, size_bytes=len(content), trained_ns=now_ns,
        active_from_ns=0, rows=len(window.rows), from_ns=window.from_ns,
        until_ns=window.until_ns, offsets=window.offsets, versions=_versions(),
        detail={"seed": str(seed), "trees": str(len(trees.leaf)), "records": str(window.records),
                "histories": str(len(trees.histories)),
                "groups_left_out": str(window.groups_left_out)},
    )  # fmt: skip  # one thought a line
    return manifest, content, replace(trees, uid=uid)


def _versions() -> dict[str, str]:
    """What a forest depends on besides its rows and seed."""
    found = {name: version(name) for name in ("plimsoll", "numpy", "scikit-learn")}
    return found | {"python": platform.python_version()}
