"""Members from which nothing comes any more: we see less than we should."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.detection import Detection
from models.detectors.rarity import WEAK
from models.lineage import Case, LineageState, Recent
from models.members import Whole
from models.records.verdict import Family

_NEVER_NS = 2**62


def _limit_ns(state: LineageState, detection: Detection) -> int:
    return int(max(detection.silent_s, 5.0 * state.interval_s) * 1e9)


def next_silence_ns(states: Sequence[LineageState], detection: Detection) -> list[int]:
    """When the next member of each lineage, of those not noted yet, is silent for too long."""
    out = [_NEVER_NS] * len(states)
    some = [at for at, state in enumerate(states) if len(state.members)]
    if not some:
        return out
    heard = [_unnoted(states[at]) for at in some]
    last_ns, first = np.concatenate(heard), np.cumsum([0, *map(len, heard[:-1])])
    longest = np.minimum.reduceat(np.where(last_ns > 0, last_ns, _NEVER_NS), first)
    for at, last in zip(some, longest.tolist(), strict=True):
        if last < _NEVER_NS:
            out[at] = last + _limit_ns(states[at], detection) + 1
    return out


def _unnoted(state: LineageState) -> Whole:
    """The last sample of each member; 0 of those that are noted to be silent."""
    last_ns = state.members.last_ns
    noted = [state.members.rows[subject] for subject, case in state.cases.items()
             if case.silent and subject in state.members.rows]  # fmt: skip  # one expression
    if noted:
        last_ns = last_ns.copy()
        last_ns[noted] = 0
    return last_ns


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
