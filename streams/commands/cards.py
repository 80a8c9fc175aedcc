"""A model's card as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from models.drift import LARGE, MODERATE
from models.records.manifest import Evaluation, Manifest, Rehearsal
from streams.commands.times import clock


def card(manifest: Manifest) -> Iterator[str]:
    """What it is, what it has seen, and how it did where it was tried."""
    about = manifest.detail or {}
    yield f"{manifest.uid}  {manifest.algorithm}, scope {manifest.scope}"
    yield f"  trained   {clock(manifest.trained_ns)} on {manifest.rows} samples" + (
        f", seed {about['seed']}" if "seed" in about else ""
    )
    yield f"  window    {clock(manifest.from_ns)} to {clock(manifest.until_ns)}"
    if manifest.offsets:
        read = sum(pair[1] - pair[0] for pair in manifest.offsets.values() if len(pair) == 2)
        yield f"  telemetry {read} records of {len(manifest.offsets)} partitions"
    yield f"  serves    {manifest.lineage or 'the whole fleet'}"
    yield f"  features  {len(manifest.features)}: {', '.join(manifest.features)}"
    if "histories" in about:
        yield f"  histories {historied(about['histories'], about.get('groups_left_out', '0'))}"
    yield f"  file      sha256 {manifest.sha256}, {manifest.size_bytes} bytes"
    if manifest.versions:
        yield "  versions  " + ", ".join(f"{n} {v}" for n, v in manifest.versions.items())
    if manifest.evaluation is not None:
        yield from _tried(manifest.evaluation)


def _tried(tried: Evaluation) -> Iterator[str]:
    yield (
        f"  tried on  {tried.samples} samples held out, "
        f"{clock(tried.from_ns)} to {clock(tried.until_ns)}"
    )
    if tried.surprise:
        places = ", ".join(f"p{float(q) * 100:g} {v:.1f}" for q, v in tried.surprise.items())
        yield f"  surprise  {places} (nats; 1 is usual, 12 the most)"
    if tried.rarer:
        yield f"  rare      {rareness(tried)}"
    yield (
        f"  alarms    {counted(tried.alarms)}; without any forest {counted(tried.alarms_without)}"
    )
    for image, count in sorted(tried.alarms_by_image.items()):
        yield f"            {count} x {image}"
    if tried.drift:
        yield f"  drift     {drifted(tried.drift)}"


def historied(count: str, left_out: str) -> str:
    """Of how many groups it knows what they were like.

    >>> historied("12", "0")
    'of 12 lineages and roles, for onsets'
    >>> historied("4096", "3")
    'of 4096 lineages and roles, for onsets; 3 more found no room and stay with their baselines'
    """
    more = f"; {left_out} more found no room and stay with their baselines"
    return f"of {count} lineages and roles, for onsets{more if left_out != '0' else ''}"


def rareness(tried: Evaluation) -> str:
    """Whether what is called as rare as one in N comes once in N, in quiet times.

    >>> rareness(Evaluation(0, 1, 120, quiet=100, rarer={"10": 11}, rarer_fleet={"10": 40}))
    'of 100 quiet samples, called rarer than one in 10: 11 (10 should be; by the fleet 40)'
    """
    told = []
    for one, seen in tried.rarer.items():
        fleet = tried.rarer_fleet.get(one)
        theirs = "" if fleet is None else f"; by the fleet {fleet}"
        told.append(f"one in {one}: {seen} ({tried.quiet / int(one):.0f} should be{theirs})")
    return f"of {tried.quiet} quiet samples, called rarer than {', '.join(told)}"


def drifted(drift: dict[str, float], most: int = 4) -> str:
    """What has moved most since training, by the population stability index.

    >>> drifted({"cpu_cores": 0.31, "processes": 0.04})
    'PSI cpu_cores 0.31 (large); all others below 0.1'
    >>> drifted({"processes": 0.04})
    'PSI below 0.1 for every feature'
    """
    moved = {name: value for name, value in drift.items() if value >= MODERATE}
    if not moved:
        return f"PSI below {MODERATE} for every feature"
    first = sorted(moved.items(), key=lambda pair: -pair[1])[:most]
    told = ", ".join(f"{name} {value:.2f}" + (" (large)" if value >= LARGE else "")
                     for name, value in first)  # fmt: skip  # one phrase
    more = len(moved) - len(first)
    rest = f"{more} more from {MODERATE} on" if more else f"all others below {MODERATE}"
    return f"PSI {told}; {rest}"


def counted(counts: dict[str, int]) -> str:
    """Counts in one phrase.

    >>> counted({"suspect": 2}), counted({})
    ('2 suspect', 'none')
    """
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def rehearsed(shown: Rehearsal) -> str:
    """One rehearsal in one line."""
    verdict = "passed" if shown.passed else "FAILED"
    begin = clock(shown.from_ns) or "the beginning"
    return (
        f"{verdict}: {shown.isolations} isolations (at most {shown.most_isolations}) in "
        f"{shown.samples} samples, {begin} to {clock(shown.until_ns)}, "
        f"signed by {shown.by}"
    )
