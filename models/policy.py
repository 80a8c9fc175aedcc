"""What may be done, to whom, at which level: a file that people review.

The file is TOML, read strictly: a name that is not known, a value that cannot be, and
nothing of the file is used. docs/policy.md explains it by example.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final

from models.errors import UntrustedFile
from models.records.order import Action
from models.records.verdict import Family, Level, Verdict


class Mode(StrEnum):
    OBSERVE = "observe"  # says what it would do
    APPROVE = "approve"  # waits for an operator's word
    ENFORCE = "enforce"  # acts within the guards


ALLOWED: Final = (Action.ANNOTATE, Action.ISOLATE, Action.PAUSE, Action.STOP, Action.REDEPLOY)
"""What a rule may ask for: release and extend are an operator's words."""
CONTAINING: Final = (Action.ISOLATE, Action.PAUSE, Action.STOP)
"""What takes a container out of service until it is released, mildest first."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The first rule that fits decides. Empty ``families`` fit any; ``lineages`` are globs
    over the lineage, or over ``lineage/role`` where there is a role.
    """

    levels: tuple[Level, ...]
    action: Action
    families: tuple[Family, ...] = ()
    lineages: tuple[str, ...] = ("*",)

    def fits(self, verdict: Verdict) -> bool:
        return (
            verdict.level in self.levels
            and (not self.families or not set(self.families).isdisjoint(verdict.families))
            and _any_fits(self.lineages, verdict.lineage, f"{verdict.lineage}/{verdict.role}")
        )


@dataclass(frozen=True, slots=True)
class Protected:
    """Never acted upon, whatever is found: globs."""

    lineages: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    """Over a container's id or name."""


@dataclass(frozen=True, slots=True)
class Guards:
    """How much may be out of service by our doing."""

    largest_share: float = 0.34
    """Of an image's replicas at a time; one is allowed however few there are."""
    healthy_floor: int = 0
    """Replicas of an image that must stay in service. 0: the only one may be isolated."""
    per_hour: int = 10
    """Acts in any hour of event time, over all images."""
    late_s: float = 60.0
    """A finding older than this on arrival alerts, and orders nothing."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take and last."""

    deadline_s: float = 30.0
    """A responder refuses an order that is older."""
    answer_s: float = 15.0
    """An order without an outcome for this long past its deadline counts as unanswered."""
    ttl_s: float = 3600.0
    """What was done ends by itself after this, unless a signed word extends it."""
    quiet_s: float = 600.0
    """An incident closes when its subject was quiet for so long and nothing is held."""
    silent_s: float = 3600.0
    """It also closes when nothing at all was heard of it for so long."""
    remember_s: float = 3600.0
    """A closed incident leaves the governor's memory after this; its evidence stays."""


DEFAULT_RULES: Final = (
    Rule((Level.COMPROMISED,), Action.ISOLATE),
    Rule((Level.CORRUPTED,), Action.REDEPLOY),
    Rule((Level.SUSPECT, Level.WATCH), Action.ANNOTATE),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """``ladder`` is what a responder tries, in turn, from an order's action on."""

    mode: Mode = Mode.OBSERVE
    rules: tuple[Rule, ...] = DEFAULT_RULES
    protected: Protected = Protected()
    guards: Guards = Guards()
    times: Times = Times()
    ladder: tuple[Action, ...] = CONTAINING

    def action_for(self, verdict: Verdict) -> Action:
        """What the first rule that fits asks for; annotate where none does.

        >>> Policy().rules[0].action
        <Action.ISOLATE: 'isolate'>
        """
        return next((rule.action for rule in self.rules if rule.fits(verdict)), Action.ANNOTATE)

    def rungs_after(self, action: Action) -> tuple[Action, ...]:
        """What to try when ``action`` cannot be verified: the ladder above it.

        >>> [str(rung) for rung in Policy().rungs_after(Action.ISOLATE)]
        ['pause', 'stop']
        """
        if action not in self.ladder:
            return ()
        return self.ladder[self.ladder.index(action) + 1 :]

    def protection(self, lineage: str, host: str, subject: str, name: str) -> str:
        """Why this one is never acted upon; empty when it is not protected."""
        for kind, globs, values in (
            ("image", self.protected.lineages, (lineage,)),
            ("host", self.protected.hosts, (host,)),
            ("container", self.protected.subjects, (subject, name)),
        ):
            for glob in globs:
                if any(value and fnmatchcase(value, glob) for value in values):
                    return f"{kind} is protected by the policy ({glob})"
        return ""


def _any_fits(globs: tuple[str, ...], *values: str) -> bool:
    return any(fnmatchcase(value, glob) for glob in globs for value in values)


# ---- the file -----------------------------------------------------------------------------


def read_policy(text: str, source: str = "policy") -> Policy:
    """The policy of a TOML text; ``source`` names it in errors.

    Raises: UntrustedFile, which names every fault at once.

    >>> read_policy('mode = "approve"').mode
    <Mode.APPROVE: 'approve'>
    """
    try:
        said = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise UntrustedFile(f"{source} is no TOML: {problem}; nothing of it is used") from problem
    faults: list[str] = []
    policy = _policy(said, faults)
    if faults:
        listed = "\n  ".join(faults)
        raise UntrustedFile(
            f"{source} cannot be used ({len(faults)} faults), see docs/policy.md:\n  {listed}"
        )
    return policy


def _policy(said: Mapping[str, Any], faults: list[str]) -> Policy:
    _known("", said, ("mode", "rules", "protected", "guards", "times", "ladder"), faults)
    rules = said.get("rules")
    if rules is not None and (type(rules) is not list or not rules):
        faults.append("rules: expected [[rules]] tables, at least one")
        rules = None
    return Policy(
        mode=_one_of(Mode, said.get("mode", "observe"), "mode", faults),
        rules=DEFAULT_RULES if rules is None else tuple(_rules(rules, faults)),
        protected=_protected(said.get("protected", {}), faults),
        guards=_numbers(Guards, said.get("guards", {}), "guards", faults),
        times=_numbers(Times, said.get("times", {}), "times", faults),
        ladder=_ladder(said.get("ladder"), faults),
    )


def _rules(tables: list[Any], faults: list[str]) -> Iterator[Rule]:
    for at, table in enumerate(tables):
        place = f"rules[{at}]"
        if not _is_table(table, place, faults):
            continue
        _known(place, table, ("levels", "families", "lineages", "action"), faults)
        levels = _many_of(Level, table.get("levels"), f"{place}.levels", faults)
        if Level.QUIET in levels:
            faults.append(f"{place}.levels: quiet calls for nothing")
        families = table.get("families", [])
        yield Rule(
            levels,
            _action(table.get("action"), f"{place}.action", faults),
            _many_of(Family, families, f"{place}.families", faults) if families else (),
            _globs(table.get("lineages", ["*"]), f"{place}.lineages", faults),
        )


def _protected(table: Any, faults: list[str]) -> Protected:
    names = tuple(field.name for field in fields(Protected))
    if not _is_table(table, "protected", faults):
        return Protected()
    _known("protected", table, names, faults)
    return Protected(*(_globs(table.get(n, []), f"protected.{n}", faults) for n in names))


def _ladder(said: Any, faults: list[str]) -> tuple[Action, ...]:
    if said is None:
        return CONTAINING
    found = _many_of(Action, said, "ladder", faults) if said != [] else ()
    if not set(found) <= set(CONTAINING) or len(set(found)) != len(found):
        faults.append("ladder: expected isolate, pause and stop, each at most once")
    return found


_LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "largest_share": (0.0, 1.0), "healthy_floor": (0, 100_000), "per_hour": (0, 100_000),
    "late_s": (1, 86_400), "deadline_s": (1, 3600), "answer_s": (1, 3600),
    "ttl_s": (10, 30 * 86_400), "quiet_s": (1, 7 * 86_400), "silent_s": (10, 30 * 86_400),
    "remember_s": (60, 30 * 86_400),
}  # fmt: skip  # a table


def _numbers(kind: Any, table: Any, place: str, faults: list[str]) -> Any:
    if not _is_table(table, place, faults):
        return kind()
    _known(place, table, tuple(field.name for field in fields(kind)), faults)
    found = {}
    for field in fields(kind):
        if field.name not in table:
            continue
        value, (low, high) = table[field.name], _LIMITS[field.name]
        whole = type(field.default) is int
        typed = type(value) is int or (type(value) is float and not whole)
        if not typed or not low <= value <= high:
            noun = "a whole number" if whole else "a number"
            faults.append(f"{place}.{field.name} = {value!r}: expected {noun}, {low} to {high}")
            continue
        found[field.name] = value if whole else float(value)
    return kind(**found)


def _action(said: Any, place: str, faults: list[str]) -> Action:
    if said not in tuple(ALLOWED):
        faults.append(f"{place} = {said!r}: expected one of {', '.join(ALLOWED)}")
        return Action.ANNOTATE
    return Action(said)


def _one_of(kind: Any, said: Any, place: str, faults: list[str]) -> Any:
    known = [member.value for member in kind]
    if said not in known:
        faults.append(f"{place} = {said!r}: expected one of {', '.join(known)}")
        return next(iter(kind))
    return kind(said)


def _many_of(kind: Any, said: Any, place: str, faults: list[str]) -> tuple[Any, ...]:
    if type(said) is not list or not said:
        faults.append(f"{place}: expected a list of {', '.join(kind)}")
        return ()
    return tuple(_one_of(kind, one, f"{place}[{at}]", faults) for at, one in enumerate(said))


def _globs(said: Any, place: str, faults: list[str]) -> tuple[str, ...]:
    if type(said) is not list or not all(type(one) is str and one for one in said):
        faults.append(f'{place}: expected a list of patterns such as "registry/shop/*"')
        return ()
    return tuple(said)


def _is_table(said: Any, place: str, faults: list[str]) -> bool:
    if type(said) is not dict:
        faults.append(f"{place}: expected a table")
        return False
    return True


def _known(place: str, table: Mapping[str, Any], names: tuple[str, ...], faults: list[str]) -> None:
    for strange in sorted(table.keys() - set(names)):
        at = f"{place}.{strange}" if place else strange
        faults.append(f"{at}: there is no such entry; known are {', '.join(names)}")
