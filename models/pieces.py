"""What speaks against one container now: its magnitudes and the facts it has shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models import reasons, rhythm, spells
from models.contract import HOST_PREFIX
from models.detection import Detection
from models.detectors import distance, drip
from models.detectors.base import score
from models.detectors.forest import Forest
from models.detectors.rarity import PROOF, STRANGERS, STRONG, WEAK
from models.features import BOTH_WAYS, FAMILIES, FEATURES, INDEX, NAMES, SIZE, Array
from models.learning import learning
from models.lineage import Case, Image, LineageState, Recent
from models.magnitudes import own_level
from models.members import FAST, LAST, LEVEL, SLOW
from models.onset import Onset
from models.records.verdict import Evidence, Family, Finding, Reason, Verdict
from models.siblings import shared_by
from models.sightings import siblings
from models.verdict import Patience, Piece

_MAGNITUDES: Final = tuple(
    (family, np.array([at for at, of in enumerate(FAMILIES) if of is family]))
    for family in (Family.EGRESS, Family.INGRESS, Family.RESOURCE, Family.PROCESS)
)
_FEATURES_OF: Final = dict(_MAGNITUDES)
_SENT: Final = INDEX["network_transmit_bytes_per_s"]
_RECEIVED: Final = INDEX["network_receive_bytes_per_s"]
_RATIO: Final = INDEX["network_transmit_bytes_per_received"]
_PACKETS: Final = INDEX["network_transmit_packets_per_s"]
_PER_PACKET: Final = INDEX["network_transmit_bytes_per_packet"]
"""Packets of another size are a tunnel only where they are more than usual: when work goes, the
large ones go first."""
_THROTTLED: Final = INDEX["cpu_throttled_ratio"]
_LOAD_SHARE: Final = 0.6
_NOISE: Final = 0.3
_MUCH: Final = 1.0
"""As logarithms, a third more, and e times as much: so much may two amounts differ that follow
each other, and those that do so in deviations."""
_NEXT_TO_NOTHING: Final = 1 / 16
"""Of a feature's floor: next to less, anything would be many times as much."""
_STAYS_PAST: Final = 0.8
"""Past the line until below this share of it."""
_LEANS: Final = 0.75
"""Share of the line that is enough where a fact agrees for a while: each alone is too weak to
speak, both by chance at once is rarer still.
"""
_ON_ITS_WAY: Final = 0.3
"""Share of the line from which a feature is told beside the one that leads its family."""
_SCAN_PAIRS: Final = 10
_CLOSED: Final = frozenset({"in", "from", "file", "hand", "coverage"})
"""Kinds of facts that never agree with another: too common to be more than a word. What people do
by hand is new every time, and so is with whom it talks."""
_KEPT_S: Final = 1_800.0
"""A stranger is remembered for so long: what goes to it adds up."""
_OWN: Final = frozenset({"boot", "oom", "crash", "coverage"})
"""Kinds that no sibling can make dull."""


@dataclass(slots=True)
class Said:
    """What came of judging: verdicts and findings, in order."""

    verdicts: list[Verdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """What judging one container needs to know around it."""

    state: LineageState
    detection: Detection
    arrived_ns: int
    forest: Forest | None
    said: Said
    onsets: Mapping[int, Onset] = field(default_factory=dict)
    """What sets in just now, by row of the state's members."""

    @property
    def patience(self) -> Patience:
        settings = self.detection
        return Patience(
            settings.memory_sustained_s, settings.resource_sustained_s,
            max(settings.other_sustained_s, 2.0 * self.state.interval_s),
        )  # fmt: skip  # short enough


def magnitudes(bench: Bench, case: Case, row: int, image: Image, evidence: Array) -> list[Piece]:
    """What is past the line, or leans on it, family by family."""
    pieces = []
    boosted, top = _boosted(bench, row, evidence), int(evidence.argmax())
    for family, features in _MAGNITUDES:
        at = int(features[evidence[features].argmax()])
        share = float(evidence[at]) * (boosted if at == top else 1.0) / image.line
        leaning_s = _lasted_s(bench, case, f"~{family}", share, _LEANS)
        past_s = _lasted_s(bench, case, family, share, 1.0)
        if leaning_s is None and past_s is None:
            case.past_ns.pop(f"!{family}", None)
            continue
        lasted_s = max(leaning_s or 0.0, 0.0) if past_s is None else past_s
        excused = _excused(bench, row, image, family, evidence)
        reason = _reason(bench, row, image, at, score(share), lasted_s)
        if not excused and past_s is not None:
            days = _habit(bench, case, row, image, at, past_s)
            if days:
                excused = True
                reason = replace(
                    reason, text=f"{reason.text}; as at this time on {days} days before"
                )
        times = 0 if excused else _spells(bench, case, row, image, at, past_s)
        if times:
            reason = replace(
                reason, text=f"{reason.text}; as high for as long {times} times before"
            )
        # What was excused until now has not stood against it for so long.
        lasted_s = min(lasted_s, _stands_s(bench, case, f"!{family}", excused=excused))
        if at == top and boosted > 1.0:
            reason = replace(reason, text=f"{reason.text}; {_forest_says(bench, row, image)}")
        # The range follows what is sent, slowly: who pushes it up must not be excused by it.
        alone = at == _SENT or (
            not times
            and _beyond(bench, row, image, at)
            and (family is not Family.RESOURCE or _settled(bench, row, image, at))
            and (at != _PER_PACKET or evidence[_PACKETS] >= _ON_ITS_WAY * image.line)
        )
        pieces.append(Piece(
            family, Evidence.MAGNITUDE, WEAK if excused else STRONG, reason, lasted_s=lasted_s,
            alone=alone, old=past_s is None, leaning=past_s is None,
            values=_values(bench, row, features, evidence, image.line),
        ))  # fmt: skip  # short enough
    return pieces


def _values(
    bench: Bench, row: int, features: npt.NDArray[np.int64], evidence: Array, line: float
) -> dict[str, float]:
    """What a family's features measured, as far as they are on their way to the line: those
    that a person speaks of who calls it a false alarm.
    """
    near = features[evidence[features] >= _ON_ITS_WAY * line].tolist()
    last = bench.state.members.grid[row, LAST]
    return {NAMES[at]: reasons.restored(at, float(last[at]))[0]
            for at in near if np.isfinite(last[at])}  # fmt: skip  # one condition


def onset(bench: Bench, row: int, image: Image) -> list[Piece]:
    """What sets in just now: a word, whatever it is."""
    found = bench.onsets.get(row)
    if found is None:
        return []
    reason = reasons.onset(
        found.beyond, found.features, found.values, found.before,
        _siblings(bench, row, image, found.features[0]),
    )  # fmt: skip  # short enough
    return [Piece(
        reason.family, Evidence.MAGNITUDE, WEAK, reason, open=False, alone=False, leaning=True
    )]  # fmt: skip  # short enough


def _lasted_s(bench: Bench, case: Case, name: str, share: float, line: float) -> float | None:
    """For how long evidence has been past a share of the line, None if it is not; it stays
    past until clearly below.
    """
    if share < line * (_STAYS_PAST if name in case.past_ns else 1.0):
        case.past_ns.pop(name, None)
        return None
    return (bench.state.now_ns - case.past_ns.setdefault(str(name), bench.state.now_ns)) / 1e9


def _stands_s(bench: Bench, case: Case, name: str, *, excused: bool) -> float:
    """For how long nothing has excused it."""
    if excused:
        case.past_ns.pop(name, None)
        return 0.0
    return (bench.state.now_ns - case.past_ns.setdefault(name, bench.state.now_ns)) / 1e9


def _beyond(bench: Bench, row: int, image: Image, at: int) -> bool:
    """Whether it is clearly outside what was ever usual: what is inside, however rare, speaks
    only together with something else.
    """
    members, base = bench.state.members, image.baseline
    own = members.grid[row, LAST, at] - _level(bench, row, at)
    past = max(own - base.high[at], base.low[at] - own if BOTH_WAYS[at] else -np.inf)
    return bool(past >= bench.detection.material)


def _settled(bench: Bench, row: int, image: Image, at: int) -> bool:
    """Whether a resource may condemn alone: its container is no longer new, nor is what is
    known of it. Being throttled is a limit that works, no fault.
    """
    members, detection = bench.state.members, bench.detection
    if at == _THROTTLED:
        return False
    old = members.last_ns[row] - members.since_ns[row] >= detection.settle_s * 1e9
    return bool(old and image.baseline.blocks[at] >= detection.settle_blocks)


def _habit(bench: Bench, case: Case, row: int, image: Image, at: int, past_s: float) -> int:
    """On how many days before it did the same at this time; 0 for none to speak of. Remembers
    that it did so today, unless a fact says that this is more than work.
    """
    state = bench.state
    own = float(state.members.grid[row, LAST, at]) - _level(bench, row, at)
    if own <= image.baseline.high[at]:
        return 0
    feature = FEATURES[at].name
    days = rhythm.usual(image.rhythm, feature, state.now_ns, own)
    if _is_work(bench, case, row, past_s):
        image.rhythm = rhythm.noted(image.rhythm, feature, state.now_ns, own)
    return days


def _spells(bench: Bench, case: Case, row: int, image: Image, at: int, past_s: float | None) -> int:
    """How often it did so before, for as long; 0 for not often enough. Remembers that it does
    so now, as :func:`_habit` does.
    """
    state, feature = bench.state, FEATURES[at]
    own = float(state.members.grid[row, LAST, at]) - _level(bench, row, at)
    job = feature.family is Family.RESOURCE and not feature.name.startswith("memory")
    if past_s is None or not job or own <= image.baseline.high[at]:
        return 0
    since_ns = case.past_ns[feature.family]
    times = spells.usual(image.spells, feature.name, since_ns, state.now_ns, own)
    if _is_work(bench, case, row, past_s):
        image.spells = spells.noted(image.spells, feature.name, since_ns, state.now_ns, own)
    return times


def _is_work(bench: Bench, case: Case, row: int, past_s: float) -> bool:
    """Whether what is past the line may be remembered: it stays, no fact speaks with it, and
    nobody called it an incident.
    """
    barred = bench.state.members.who[row].subject in bench.state.lessons.barred
    return past_s >= bench.patience.other_s and not case.recents and not barred


def _boosted(bench: Bench, row: int, evidence: Array) -> float:
    """The forest may double what the distance says, no more: a rare combination of things
    that are each a little off.
    """
    if bench.forest is None:
        return 1.0
    peak, surprise = float(evidence.max()), float(bench.state.members.surprise[row])
    return min(max(surprise / peak, 1.0), 2.0) if peak > 0.0 else 1.0


def _forest_says(bench: Bench, row: int, image: Image) -> str:
    """The forest's part, by exact path attribution."""
    shared = shared_by(bench.state, image.name, bench.detection)
    at = shared.rows.tolist().index(row)
    up, down = shared.up[at, :SIZE], shared.down[at, :SIZE]
    assert bench.forest is not None
    shares = bench.forest.shares(distance.excused(shared.off[at, :SIZE], up, down)[None])[0]
    return reasons.forest(float(bench.state.members.surprise[row]), shares)


def _excused(bench: Bench, row: int, image: Image, family: Family, evidence: Array) -> bool:
    """Whether a magnitude is no more than a word: we know too little, or know why."""
    if bench.state.lineage.startswith(HOST_PREFIX):
        return True  # what a host's containers do is judged there; its own facts speak for it
    unsure = _young(bench, row) or _learning(bench, image)
    return unsure or _answers(bench, row, image, family, evidence)


def _young(bench: Bench, row: int) -> bool:
    members = bench.state.members
    return bool(members.last_ns[row] - members.since_ns[row] < bench.detection.grace_s * 1e9)


def _learning(bench: Bench, image: Image) -> bool:
    detection = bench.detection
    needed = detection.learn_blocks, detection.learn_container_blocks
    return image.baseline.learned(*needed) < 1.0


def _answers(bench: Bench, row: int, image: Image, family: Family, evidence: Array) -> bool:
    """More work is asked of it, and it answers in proportion. What comes in never condemns.

    Either in deviations, and not much more in amounts: the acknowledgements of what is taken
    away come in, too. Or in amounts alone: what was learned while there was little to do has
    too small a scale. There bytes count; many packets are what comes back to who sends much.
    """
    if family is Family.INGRESS:
        return True
    if family is Family.PROCESS:
        return False
    members, base, incoming = bench.state.members, image.baseline, _FEATURES_OF[Family.INGRESS]
    usual = base.location + own_level(members.trust()[row] * members.grid[row, LEVEL])
    times = _times(members.grid[row, LAST], usual)
    features = _FEATURES_OF[family]
    own = float(evidence[features].max())
    does = float(times[features[evidence[features] >= min(_LEANS * image.line, own)]].max())
    asked, more = float(evidence[incoming].max()), float(times[incoming].max())
    if asked >= _LOAD_SHARE * own and float(evidence[_RATIO]) < 0.5 * own and does <= more + _MUCH:
        return True
    lasting = members.grid[row, SLOW]
    # Siblings may be asked for more as well: what speaks for it is not less for that.
    if max(float(lasting[_RECEIVED]), float(evidence[_RECEIVED])) < _ON_ITS_WAY * image.line:
        return False
    stays = _times(usual + lasting * base.scale, usual)
    return does <= max(float(times[_RECEIVED]), float(stays[_RECEIVED])) + _NOISE


def _times(seen: Array, usual: Array) -> Array:
    """How many times as much, as a logarithm; finite, whatever was not measured counts as usual.

    >>> np.exp(_times(np.arcsinh([8.0, 0.0]), np.arcsinh([4.0, 0.0]))).round(1).tolist()
    [2.0, 1.0]
    """
    now, before = (np.sinh(np.maximum(amount, 0.0)) + _NEXT_TO_NOTHING for amount in (seen, usual))
    return np.nan_to_num(np.log(now / before))


def _reason(
    bench: Bench, row: int, image: Image, at: int, rarity: float, lasted_s: float
) -> Reason:
    members, base = bench.state.members, image.baseline
    level = _level(bench, row, at)
    fast, slow = float(members.grid[row, FAST, at]), float(members.grid[row, SLOW, at])
    return reasons.magnitude(
        at, float(members.grid[row, LAST, at]), float(base.low[at]) + level,
        float(base.high[at]) + level, _siblings(bench, row, image, at), rarity, lasted_s,
        rising=fast > 1.1 * slow > 0.0,
    )  # fmt: skip  # one argument a line tells no more


def _siblings(bench: Bench, row: int, image: Image, at: int) -> str:
    """What the others of the image do in that feature."""
    members = bench.state.members
    rows = [r for r, who in enumerate(members.who) if who.image == image.name]
    shared = float(distance.shared(members.grid[rows, FAST])[0][rows.index(row), at])
    return reasons.others(len(rows) - 1, shared)


def _level(bench: Bench, row: int, at: int) -> float:
    members = bench.state.members
    return float(own_level(members.trust()[row] * members.grid[row, LEVEL])[at])


def facts(bench: Bench, case: Case, subject: str, row: int, image: Image) -> list[Piece]:
    """What is rare of what it has shown lately; what has become dull is dropped."""
    state, detection, now_ns = bench.state, bench.detection, bench.state.now_ns
    pieces: list[Piece] = []
    peers: list[tuple[str, Recent]] = []
    for key, recent in list(case.recents.items()):
        kind, passed_s = key.partition(" ")[0], (now_ns - recent.last_ns) / 1e9
        speaks_s = detection.proof_s if recent.grade == PROOF else detection.fact_s
        kept_s = _KEPT_S if kind in STRANGERS else speaks_s
        if passed_s > kept_s or (kind not in _OWN and _dull(bench, key, subject)):
            del case.recents[key]
        elif passed_s <= speaks_s:
            pieces.append(_piece(bench, subject, image, key, recent))
            if kind in STRANGERS:
                peers.append((kind, recent))
    if peers and not _learning(bench, image) and not learning(state, detection):
        pieces += _scan(bench, peers) + _drips(bench, row, image, peers)
    return pieces


def _dull(bench: Bench, key: str, subject: str) -> bool:
    state, detection = bench.state, bench.detection
    if learning(state, detection):
        return False
    return state.facts.rarity(key, subject, siblings(state)) < detection.rare


def _piece(bench: Bench, subject: str, image: Image, key: str, recent: Recent) -> Piece:
    now_ns, proof = bench.state.now_ns, recent.grade >= PROOF
    kind = key.partition(" ")[0]
    unsure = not proof and recent.family != Family.RESOURCE and (
        _learning(bench, image) or learning(bench.state, bench.detection)
    )  # fmt: skip  # reads as it is said
    family = Family(recent.family)
    if kind in _OWN:
        evidence = Evidence.PROOF if proof else Evidence.FACT
        reason = Reason(family, evidence, recent.text, rarity=recent.rarity)
    else:
        known = bench.state.facts
        reason = reasons.fact(
            family, proof, recent.text, recent.rarity, siblings=siblings(bench.state),
            others=known.others(key, subject), earlier_h=known.earlier_ns(key, now_ns) / 3.6e12,
        )  # fmt: skip  # short enough
    return Piece(
        family, Evidence.PROOF if proof else Evidence.FACT, WEAK if unsure else recent.grade,
        reason, kind, (recent.last_ns - recent.first_ns) / 1e9,
        open=not unsure and kind not in _CLOSED,
        old=not proof and now_ns - recent.first_ns > bench.detection.fact_s * 1e9, key=key,
    )  # fmt: skip  # one argument a line tells no more


def _scan(bench: Bench, peers: list[tuple[str, Recent]]) -> list[Piece]:
    """Many strangers at once where one is rare; and most of them do not answer."""
    since_ns = bench.state.now_ns - int(bench.detection.fact_s * 1e9)
    lately = [recent for kind, recent in peers if recent.first_ns >= since_ns and kind != "port"]
    ports = [recent for kind, recent in peers if recent.first_ns >= since_ns and kind == "port"]
    lately = max(lately, ports, key=len)
    if len(lately) < _SCAN_PAIRS:
        return []
    text = f"tried {len(lately)} peers and ports within {bench.detection.fact_s:.0f} s"
    pieces = [_made("scan", f"{text}, none seen before", len(lately))]
    silent = sum(recent.unanswered > 0 for recent in lately)
    if silent * 2 >= len(lately):
        pieces.append(_made("unanswered", f"{silent} of them did not answer", silent))
    return pieces


def _drips(bench: Bench, row: int, image: Image, peers: list[tuple[str, Recent]]) -> list[Piece]:
    """More went to one rare peer than it usually sends in all."""
    members, base = bench.state.members, image.baseline
    usual = float(base.high[_SENT] + members.trust()[row] * members.grid[row, LEVEL, _SENT])
    rate = reasons.restored(_SENT, usual)[0] if np.isfinite(usual) else 0.0
    pieces = []
    for kind, recent in peers:
        if kind == "port":
            continue
        lasted_s = (recent.last_ns - recent.first_ns) / 1e9
        line = drip.line_bytes(rate, lasted_s)
        if recent.sent_bytes > line:
            sent, most = (reasons.amount(b, "B") for b in (recent.sent_bytes, line))
            # The first sighting tells of the interval before it.
            within_s = lasted_s + bench.state.interval_s
            text = f"{recent.text}: {sent} in {within_s:.0f} s; usual in all at most {most}"
            pieces.append(_made("drip", text, recent.sent_bytes))
    return pieces


def _made(kind: str, text: str, value: float) -> Piece:
    reason = Reason(Family.EGRESS, Evidence.FACT, text, value=float(value), rarity=1.0)
    return Piece(Family.EGRESS, Evidence.FACT, STRONG, reason, kind)
