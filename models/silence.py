"""Members from which nothing comes any more: we see less than we should."""

from __future__ import annotations

import numpy as np

from models.detection import Detection
from models.detectors.rarity import WEAK
from models.lineage import Case, LineageState, Recent
from models.records.verdict import Family

_NEVER_NS = 2**62


def _limit_ns(state: LineageState, detection: Detection) -> int:
    return int(max(detection.silent_s, 5.0 * state.interval_s) * 1e9)


def next_silence_ns(state: LineageState, detection: Detection) -> int:
    """When the next member, of those not noted yet, is silent for too long."""
    waiting = state.members.last_ns > 0
    for subject, case in state.cases.items():
        if case.silent and subject in state.members.rows:
            waiting[state.members.rows[subject]] = False
    last = state.members.last_ns[waiting]
    if not len(last):
        return _NEVER_NS
    return int(last[last.argmin()]) + _limit_ns(state, detection) + 1


def silent(state: LineageState, detection: Detection) -> list[str]:
    """The members that have just become silent, each noted once.

    Where most fall silent together a collector is away, not they: gather tells of that.
    """
    members = state.members
    quiet = (members.last_ns < state.now_ns - _limit_ns(state, detection)) & (members.last_ns > 0)
    if not quiet.any() or (len(members) > 1 and quiet.sum() * 2 > len(members)):
        return []
    noted = []
    for row in np.flatnonzero(quiet).tolist():
        subject = members.who[row].subject
        case = state.cases.setdefault(subject, Case())
        if not case.silent:
            case.silent = True
            text = f"no samples for {(state.now_ns - members.last_ns[row]) / 1e9:.0f} s"
            case.recents["coverage silent"] = Recent(
                Family.COVERAGE, WEAK, 1.0, text, state.now_ns, state.now_ns
            )
            noted.append(subject)
    return noted
