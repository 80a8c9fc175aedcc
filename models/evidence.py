"""Evidence as one hash chain an incident: what is appended can't be changed unseen.

Each exhibit's hash covers its fields and the hash of the one before; the governor signs the
newest hash (the head) at each append. A governor that was killed between an append and its
commit appends again, perhaps in another order: a side branch, for which signed heads of its
own vouch. That is told, and harmless. A hole, a changed content, an exhibit for which no
signed head vouches, and a head that fits no exhibit are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.records import checks
from models.records.exhibit import Exhibit

_FORM: Final = b"plimsoll-exhibit-1"
"""The form of what is hashed; it outlives every change of the wire format."""


FOREIGN: Final = "no signed head vouches for it: changed, or put there by another"


@dataclass(frozen=True, slots=True)
class Head:
    """How long a chain is, and its last exhibit's hash; signed by the governor."""

    scope: str
    incident: str
    exhibits: int
    sha256: str
    at_ns: int

    def __post_init__(self) -> None:
        checks.scope(self.scope)
        checks.name(self.incident, "incident")
        checks.between(self.exhibits, 1, 2**31, "exhibits")
        checks.time(self.at_ns, "at_ns")


@dataclass(frozen=True, slots=True)
class Looked:
    """One exhibit (or head) after verification; ``problem`` is empty when it holds."""

    sequence: int
    kind: str
    sha256: str
    problem: str = ""
    exhibit: Exhibit | None = None


def exhibit_hash(exhibit: Exhibit) -> str:
    """SHA-256 over the exhibit's fields, each led by its length, in one fixed order.

    The content enters by its own digest, so that a chain still holds once contents that
    nobody may keep any longer are gone.
    """
    digest = hashlib.sha256(_FORM)
    for field in (
        exhibit.scope, exhibit.incident, str(exhibit.sequence), exhibit.kind,
        str(exhibit.taken_ns), exhibit.source, exhibit.sha256, str(exhibit.size_bytes),
        exhibit.previous, exhibit.location, exhibit.detail,
    ):  # fmt: skip  # a list to read across
        body = field.encode()
        digest.update(b"%d:" % len(body))
        digest.update(body)
    return digest.hexdigest()


def content_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- verification -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verification:
    """``chain`` is the chain in order, ``others`` what lies beside it."""

    chain: tuple[Looked, ...]
    others: tuple[Looked, ...]

    @property
    def holds(self) -> bool:
        return bool(self.chain) and not any(one.problem for one in (*self.chain, *self.others))


def verify(
    exhibits: Iterable[Exhibit], heads: Sequence[Head], witnesses: Sequence[Head] = ()
) -> Verification:
    """Look at everything known of one incident's chain.

    ``heads`` are those whose signature held, in the order of the log. ``witnesses`` are
    heads that others were told (alerts carry them): they show a chain that was cut off
    together with its newest heads.
    """
    by_hash = {exhibit_hash(one): one for one in exhibits}
    claims = (*heads, *witnesses)
    if not heads:
        looked = tuple(
            Looked(one.sequence, one.kind, digest, FOREIGN, one) for digest, one in by_hash.items()
        )
        return Verification((), looked or (Looked(0, "head", "", "there is no signed head"),))
    # The longest claim; among equals the one made last, as the governor went on from there.
    newest = max(enumerate(heads), key=lambda pair: (pair[1].exhibits, pair[0]))[1]
    longest = max(claims, key=lambda claim: claim.exhibits)
    chain = _walk(newest, by_hash)
    others = [*_beside(chain, by_hash, heads), *_false_claims(chain, by_hash, claims)]
    if longest.exhibits > newest.exhibits:
        missing = f"{longest.exhibits} exhibits were announced, the signed chain has "
        others.append(
            Looked(longest.exhibits - 1, "head", longest.sha256, f"{missing}{newest.exhibits}")
        )
    return Verification(chain, tuple(others))


def _walk(head: Head, by_hash: Mapping[str, Exhibit]) -> tuple[Looked, ...]:
    """From the head back to the first, then told in order; a hole ends the way back."""
    looked: list[Looked] = []
    digest = head.sha256
    for sequence in range(head.exhibits - 1, -1, -1):
        found = by_hash.get(digest)
        if found is None:
            problem = "missing, or changed: nothing here has the hash that the next one names"
            looked.append(Looked(sequence, "?", digest, problem))
            if sequence:
                before = f"cannot be reached: number {sequence} is gone"
                looked += [Looked(at, "?", "", before) for at in range(sequence - 1, -1, -1)]
            break
        looked.append(Looked(sequence, found.kind, digest, _problem(found, sequence), found))
        digest = found.previous
    return tuple(reversed(looked))


def _problem(exhibit: Exhibit, sequence: int) -> str:
    if exhibit.sequence != sequence:
        return f"it says it is number {exhibit.sequence}"
    if exhibit.sequence == 0 and exhibit.previous:
        return "the first exhibit names one before it"
    if exhibit.content is not None and content_hash(exhibit.content) != exhibit.sha256:
        return "its content was changed: the digest does not fit"
    return ""


def _beside(
    chain: tuple[Looked, ...], by_hash: Mapping[str, Exhibit], heads: Sequence[Head]
) -> Iterable[Looked]:
    """What is in the log and not on the chain: of a branch that a restart left, or foreign."""
    on = {one.sha256 for one in chain}
    vouched: set[str] = set()
    for head in heads:
        digest = head.sha256
        while digest in by_hash and digest not in vouched:
            vouched.add(digest)
            digest = by_hash[digest].previous
    for digest, exhibit in by_hash.items():
        if digest not in on:
            foreign = "" if digest in vouched else FOREIGN
            problem = _problem(exhibit, exhibit.sequence) or foreign
            yield Looked(exhibit.sequence, exhibit.kind, digest, problem, exhibit)


def _false_claims(
    chain: tuple[Looked, ...], by_hash: Mapping[str, Exhibit], claims: Sequence[Head]
) -> Iterable[Looked]:
    """Heads that fit no exhibit: what they vouched for is gone."""
    on = {one.sequence: one.sha256 for one in chain}
    for claim in dict.fromkeys(claims):
        at = claim.exhibits - 1
        found = by_hash.get(claim.sha256)
        if on.get(at) != claim.sha256 and (found is None or found.sequence != at):
            problem = f"a head vouches for an exhibit number {at} that is gone or changed"
            yield Looked(at, "head", claim.sha256, problem)
