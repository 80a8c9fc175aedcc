"""What verification found, row by row, with the contents that lie in the evidence store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.errors import BrokenChain
from models.evidence import Looked, Verification
from models.records.exhibit import Exhibit
from streams.report.timeline import told_piece
from streams.report.words import clean
from streams.stores.evidence import EvidenceStore
from streams.stores.incidents import Chain, Story


@dataclass(frozen=True, slots=True)
class Proof:
    """``rows`` hold one exhibit each; ``exhibits`` those on the chain, in order."""

    rows: tuple[Mapping[str, Any], ...]
    exhibits: tuple[Exhibit, ...]
    holds: bool
    sentence: str


def proof_of(chain: Chain, story: Story | None, evidence_dir: Path | None = None) -> Proof:
    """Verify a chain against its signed heads and against what the alerts said of it.

    Contents in the store are looked at where the store is at hand; where it is not, their
    digests still stand in the chain.
    """
    found: Verification = chain.verified(story)
    store = EvidenceStore(evidence_dir) if evidence_dir is not None else None
    rows = [_row(one, "chain", store) for one in found.chain]
    rows += [_row(one, "beside", store) for one in found.others]
    rows += [_line("", "?", "", f"BAD: {problem}") for problem in chain.problems]
    bad = sum(str(row["result"]).startswith("BAD") for row in rows)
    holds = found.holds and not bad
    on = [one.exhibit for one in found.chain if one.exhibit is not None]
    if holds:
        sentence = f"the chain holds: {len(on)} exhibits, {len(chain.heads)} signed heads"
    else:
        sentence = f"THE CHAIN DOES NOT HOLD: {bad} of {len(rows)} entries are bad"
    return Proof(tuple(rows), tuple(on), holds, sentence)


def _row(one: Looked, where: str, store: EvidenceStore | None) -> dict[str, Any]:
    exhibit, result = one.exhibit, "ok" if where == "chain" else "ok (appended before a restart)"
    if one.problem:
        result = f"BAD: {one.problem}"
    elif exhibit is not None and exhibit.location and store is not None:
        result = _stored(exhibit, store)
    return _line(one.sequence, one.kind, one.sha256, result, exhibit)


def _line(
    number: object, kind: str, sha256: str, result: str, exhibit: Exhibit | None = None
) -> dict[str, Any]:
    """``what`` is told of pieces of evidence; other exhibits speak by their kind."""
    return {
        "exhibit": number,
        "kind": clean(kind),
        "what": clean(told_piece(exhibit)) if exhibit and exhibit.location else "",
        "source": clean(exhibit.source) if exhibit else "",
        "taken": _clock(exhibit.taken_ns) if exhibit else "",
        "sha256": sha256,
        "lies_at": clean(exhibit.location) if exhibit else "",
        "result": result,
    }


def _stored(exhibit: Exhibit, store: EvidenceStore) -> str:
    try:
        store.read(exhibit.location)
    except BrokenChain as problem:
        # A store on another machine is not at hand: that is no change of the evidence.
        missing = "No such file" in str(problem)
        return "ok (content not at hand here)" if missing else f"BAD: {problem}"
    return "ok, content too"


def _clock(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
