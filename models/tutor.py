"""What an operator's word about an incident teaches the judge of its lineage."""

from __future__ import annotations

import hashlib
from typing import Final

from models.detectors.rarity import teachable
from models.features import BOTH_WAYS, FAMILIES, INDEX
from models.incident import Incident
from models.records.control import Verb, Word
from models.records.lesson import MOST_VALUE, Lesson, Span, Teaching
from models.records.verdict import Family

DISMISSED_NS: Final = 30 * 86_400 * 10**9
"""A dismissal teaches for so long at most, unless the word says less: what comes as seldom as
once a month is asked about again, what comes more often is learned by then."""


def lesson_of(incident: Incident, word: Word, now_ns: int) -> Lesson | None:
    """The lesson of a dismissal or confirmation; None when there is nothing to learn.

    Times are the incident's own: a dismissal ends so long after its last finding. Proofs are
    never dismissed, nor is what is no fact or magnitude of its own, such as a scan.
    """
    real = word.verb is Verb.CONFIRM
    asked_ns = word.until_ns - word.at_ns if word.until_ns else DISMISSED_NS
    lasts_ns = min(asked_ns, DISMISSED_NS)
    facts = incident.facts if real else tuple(filter(teachable, incident.facts))
    spans = () if real else _spans(incident)
    if not real and (lasts_ns <= 0 or not (facts or spans)):
        return None
    return Lesson(
        f"lesson-{hashlib.blake2b(word.uid.encode(), digest_size=8).hexdigest()}",
        incident.scope, incident.lineage, incident.role,
        Teaching.CONFIRM if real else Teaching.DISMISS, word.operator,
        min(word.at_ns, now_ns), until_ns=0 if real else incident.last_ns + lasts_ns,
        because=f"{incident.uid} {_printable(word.because)}".strip(), image=incident.image,
        subject=incident.subject, since_ns=incident.first_ns, facts=facts, spans=spans,
    )  # fmt: skip  # as the fields lie


def _spans(incident: Incident) -> tuple[Span, ...]:
    """What the features measured. What alarms upwards alone is normal from nothing on."""
    return tuple(
        Span(name, min(ends) if BOTH_WAYS[INDEX[name]] else 0.0, max(ends))
        for name, ends in incident.values.items()
        if name in INDEX and FAMILIES[INDEX[name]] is not Family.INGRESS and max(ends) <= MOST_VALUE
    )


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:500]


def told(lesson: Lesson) -> str:
    """What it comes to, in a few words."""
    if lesson.what is Teaching.CONFIRM:
        return "nothing of it is learned, by whomever it is shown"
    parts = [f"{len(lesson.facts)} facts"] if lesson.facts else []
    parts += [span.feature for span in lesson.spans]
    days = (lesson.until_ns - lesson.since_ns) / (86_400 * 10**9)
    return f"up to what was seen, {', '.join(parts)} are normal here for {days:.3g} days"
