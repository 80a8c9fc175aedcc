"""One container's evidence → its level, verdict and finding."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.crowd import Crowd
from models.detectors.rarity import PROOF, STRONG
from models.features import Array
from models.learning import veto
from models.lineage import Case, Image
from models.pieces import Bench, facts, magnitudes, onset
from models.records.verdict import Evidence, Family, Finding, Level, Reason, Verdict
from models.siblings import Shared, Weighed, weighed_in
from models.verdict import Piece, level_of

LEVELS: Final = tuple(Level)
_MOST_REASONS: Final = 8
_MOST_ALIKE: Final = 3
Flags = npt.NDArray[np.bool_]


def judge_members(bench: Bench, subjects: list[str], weighed: dict[str, Weighed]) -> None:
    """Judge these containers, and all that something is already going on with."""
    state = bench.state
    wanted = dict.fromkeys([*subjects, *state.cases])
    places: dict[str, dict[int, int]] = {
        name: {row: at for at, row in enumerate(weight.rows.tolist())}
        for name, weight in weighed.items()
    }
    for subject in wanted:
        row = state.members.rows.get(subject)
        if row is None:
            continue
        image = state.images[state.members.who[row].image]
        if image.name not in weighed:
            weighed[image.name] = weighed_in(state, image.name, bench.detection)
            rows = weighed[image.name].rows.tolist()
            places[image.name] = {living: at for at, living in enumerate(rows)}
        at = places[image.name].get(row)
        evidence = None if at is None else weighed[image.name].evidence[at]
        _judge(bench, subject, row, image, evidence)


def past_line(
    crowd: Crowd, shared: Shared, weighed: Weighed, scored: Flags
) -> dict[int, list[int]]:
    """The members whose magnitudes need a closer look: rows of the crowd, by state. ``scored``:
    the states that have a forest.
    """
    rows = weighed.rows
    if not len(rows):
        return {}
    peak = np.maximum.reduce(weighed.evidence, axis=1)
    host = crowd.host[crowd.slot[rows]]
    boosted = np.maximum(peak, np.minimum(crowd.surprise[rows], 2.0 * peak))
    line = np.array([crowd.images[at].line for at in shared.images.tolist()])
    past = np.where(scored[host], boosted, peak) >= shared.members.spread(line)
    found: dict[int, list[int]] = {}
    for at in past.nonzero()[0].tolist():
        found.setdefault(int(host[at]), []).append(int(rows[at]))
    return found


def weighed_of(crowd: Crowd, shared: Shared, weighed: Weighed, at: int) -> dict[str, Weighed]:
    """What was weighed of one state's images, by name: rows of its own."""
    found = {}
    for place in np.flatnonzero(crowd.host[shared.images] == at).tolist():
        first, last = int(shared.members.first[place]), int(shared.members.last[place]) + 1
        own = weighed.rows[first:last] - crowd.start[at]
        image = crowd.images[int(shared.images[place])]
        found[image.name] = Weighed(own, weighed.evidence[first:last])
    return found


def _judge(bench: Bench, subject: str, row: int, image: Image, evidence: Array | None) -> None:
    state, detection = bench.state, bench.detection
    case = state.cases.setdefault(subject, Case())
    pieces = [] if evidence is None else magnitudes(bench, case, row, image, evidence)
    pieces += onset(bench, row, image)
    pieces += facts(bench, case, subject, row, image)
    level = level_of(pieces, bench.patience)
    if level.rank:
        case.held_ns[level.rank] = state.now_ns
    hold_ns = int(max(detection.hold_s, 12 * state.interval_s) * 1e9)
    held = max((r for r in range(1, 5) if state.now_ns - case.held_ns[r] < hold_ns), default=0)
    if held >= Level.CORRUPTED.rank and held > case.level:
        veto(state, image.name, held)
    _say(bench, case, row, image, pieces, LEVELS[held], justified=level.rank >= held)
    if not (case.level or case.recents or case.past_ns or case.silent):
        del state.cases[subject]


def _say(bench: Bench, case: Case, row: int, image: Image, pieces: list[Piece], level: Level,
         *, justified: bool) -> None:  # fmt: skip  # two lines
    """A verdict if it is news, or was not said for a while; a finding if the level changed."""
    state, detection = bench.state, bench.detection
    spoken = [piece for piece in pieces if not piece.old] if level.rank < 3 else pieces
    families = tuple(family for family in Family if any(p.family is family for p in spoken))
    said = f"{level}:{','.join(families)}"
    moved = level.rank != case.level
    due = state.now_ns - case.said_ns >= detection.repeat_s * 1e9
    if not moved and (not level.rank or not justified or not (due or said != case.said)):
        return
    if moved and not _room(bench):
        # The level is told, and moves, once there is room again: nothing is lost but time.
        state.suppressed += said != case.said
        case.said = said
        return
    verdict = _verdict(bench, row, image, spoken, level, families)
    if level.rank:
        bench.said.verdicts.append(verdict)
    if moved:
        _find(bench, verdict, LEVELS[case.level])
        if level.rank >= Level.CORRUPTED.rank > case.level and _felt(pieces):
            image.lift = image.lift.after(image.tail.excess, 0.0, tickets=1)
        case.level = level.rank
    case.said, case.said_ns = said, state.now_ns


def _felt(pieces: list[Piece]) -> bool:
    """Whether magnitudes speak: only then is it a ticket of theirs, and moves their line."""
    return any(p.evidence is Evidence.MAGNITUDE and not p.leaning for p in pieces)


def _verdict(bench: Bench, row: int, image: Image, pieces: list[Piece], level: Level,
             families: tuple[Family, ...]) -> Verdict:  # fmt: skip  # two lines
    state, member = bench.state, bench.state.members.who[row]
    ordered = sorted(pieces, key=lambda p: (-p.grade, -p.reason.rarity, p.reason.text))
    told = _told(ordered)
    why = tuple(piece.reason for piece in told)
    if not why:
        why = (Reason(Family.COVERAGE, Evidence.FACT, "nothing speaks against it any more"),)
    identity = "|".join((
        state.scope, state.lineage, state.role, image.name, member.subject, str(state.now_ns),
        level, *families,
    ))  # fmt: skip  # a list
    lasted_s = max((piece.lasted_s for piece in pieces), default=0.0)
    return Verdict(
        uid=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(),
        scope=state.scope, lineage=state.lineage, role=state.role, image=image.name,
        subject=member.subject, host=member.host,
        from_ns=state.now_ns - int(lasted_s * 1e9), at_ns=state.now_ns, level=level,
        score=_score(pieces), families=families, reasons=why, name=member.name,
        model=bench.forest.trees.uid if bench.forest else "", facts=_keys(ordered, told),
        values={name: value for piece in ordered for name, value in piece.values.items()},
    )  # fmt: skip  # one argument a line tells no more


def _keys(pieces: list[Piece], told: list[Piece]) -> tuple[str, ...]:
    """The facts among them, and the ports that went without saying."""
    ports = [piece for piece in pieces if piece.kind == "port"][:_MOST_ALIKE]
    return tuple(dict.fromkeys(piece.key for piece in (*told, *ports) if piece.key))


def _told(pieces: list[Piece]) -> list[Piece]:
    """At most eight, three of a kind; a port goes without saying where its peer is named."""
    named = any(piece.kind in ("peer", "mate") for piece in pieces)
    told: list[Piece] = []
    for piece in pieces:
        alike = sum(1 for other in told if piece.kind and other.kind == piece.kind)
        if alike < _MOST_ALIKE and not (named and piece.kind == "port"):
            told.append(piece)
    return told[:_MOST_REASONS]


def _score(pieces: list[Piece]) -> float:
    """The strongest piece, and a little more for each that agrees."""
    left = 1.0
    for piece in pieces:
        if piece.grade >= PROOF:
            return 1.0
        weight = 1.0 if piece.grade >= STRONG else 0.5
        left *= 1.0 - weight * min(piece.reason.rarity, 0.99)
    return 1.0 - left


def _room(bench: Bench) -> bool:
    """Whether this lineage may tell another finding in this minute."""
    state = bench.state
    if state.now_ns - state.window_ns >= 60 * 10**9:
        state.window_ns, state.told = state.now_ns, 0
    return state.told < bench.detection.findings_per_minute


def _find(bench: Bench, verdict: Verdict, before: Level) -> None:
    state, detection = bench.state, bench.detection
    if state.suppressed:
        text = f"{state.suppressed} findings of this lineage had to wait: too many at once"
        noted = Reason(Family.COVERAGE, Evidence.FACT, text, value=float(state.suppressed))
        verdict = _with(verdict, noted)
        state.suppressed = 0
    state.told += 1
    stale_ns = int(max(detection.silent_s, 5.0 * state.interval_s) * 1e9)
    live = int((state.members.last_ns >= state.now_ns - stale_ns).sum())
    bench.said.findings.append(Finding(verdict, before, bench.arrived_ns, max(live, 1)))


def _with(verdict: Verdict, reason: Reason) -> Verdict:
    return replace(verdict, reasons=(*verdict.reasons, reason))
