"""The way of one order, from received to ended, each step durable before it happens.

::

    received ─► witnessed ─► prepared ─► acted ─► told ─► held ─► ending ─► ended
                    ▲                      │
                    └── next rung of the ──┘
                        ladder, unverified

A crash anywhere leaves the step that was under way; running the case again finishes it, or
undoes it when its time is up. Every platform call brings a state about, so twice is once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import orjson
import structlog

from models.errors import ContainerGone, ContainerRuntimeError, RuntimeUnreachable, StoreFailed
from models.records.order import Action, Outcome, Status, Submission
from streams.responders.base import Acted, Phase, Responder, State
from streams.responders.store import Case, ResponderStore, Rung, Step
from streams.responders.witness import Witness

Clock = Callable[[], int]

ENDLESS: Final = (Action.ANNOTATE, Action.REDEPLOY)
"""They take nothing away from the subject, so they need no end; an order may set one."""
BEGUN_NS: Final = 30 * 10**9
"""Once an action was begun it is worth trying for this long after the order's deadline."""
RETRY_FIRST_S: Final = 0.2
RETRY_MOST_S: Final = 2.0

log = structlog.get_logger(__name__)


class Course:
    """Carries cases through. Any thread may run any case: one at a time for a subject."""

    def __init__(
        self,
        platform: Responder,
        store: ResponderStore,
        witness: Witness,
        clock: Clock,
        *,
        ttl_s: float,
        stopping: threading.Event,
    ) -> None:
        self._platform = platform
        self._store = store
        self._witness = witness
        self._clock = clock
        self._ttl_ns = int(ttl_s * 1e9)
        self._stopping = stopping
        self._silence = ""
        """What the platform's silence was last told as; empty once it has answered again."""
        self._locks = tuple(threading.Lock() for _ in range(256))
        self._steps: dict[Step, Callable[[Case], Case]] = {
            Step.RECEIVED: self._begin,
            Step.WITNESSED: self._prepare,
            Step.PREPARED: self._act,
            Step.ACTED: self._verify,
            Step.ENDING: self._undo,
        }

    def run(self, uid: str) -> Case | None:
        """Take a case as far as it goes now; what is left is the slow evidence, or time."""
        case = self._store.case(uid)
        if case is None:
            return None
        with self._lock(case.order.subject):
            case = self._store.case(uid) or case
            if case.step is Step.ACTED:
                # Interrupted while looking. Looking leaves traces (a knock is a tracked
                # connection), so what they would be taken for is brought about again.
                case = replace(case, step=Step.PREPARED)
            return self._advance(case)

    def end(self, uid: str) -> Case | None:
        """Undo a case whose time is over, or whose end was begun before; others stay."""
        case = self._store.case(uid)
        if case is None:
            return None
        with self._lock(case.order.subject):
            now = self._store.case(uid) or case
            due = 0 < now.until_ns <= self._clock() and now.step is not Step.ENDED
            if due and now.step is not Step.ENDING:
                now = self._kept(replace(now, step=Step.ENDING))
            return self._advance(now) if now.step is Step.ENDING else now

    def follow_up(self, uid: str) -> None:
        """The slow evidence of a case whose outcome is told; a second outcome carries it."""
        case = self._store.case(uid)
        if case is None or case.step is not Step.TOLD:
            return
        found = self._witness.look(case.order, Phase.SLOW)
        with self._lock(case.order.subject):
            now = self._store.case(uid) or case
            ended = all(rung.action is Action.ANNOTATE for rung in now.rungs)
            after = Step.ENDED if ended else Step.HELD
            held = replace(now, step=after) if now.step is Step.TOLD else now
            outcome = replace(self._done(case, "evidence", found), took_s=case.took_s)
            self._store.keep(held, tell=[outcome])

    # ---- steps ----------------------------------------------------------------------------

    def _advance(self, case: Case) -> Case:
        while case.step in self._steps and not self._stopping.is_set():
            if self._over(case):
                case = self._kept(replace(case, step=Step.ENDING))
            after = self._tried(case)
            if after.step is case.step:
                return after
            case = after
        return case

    def _tried(self, case: Case) -> Case:
        """One step, asked again while the platform is silent; at the same step still when it
        must be left for later.
        """
        for pause_s in _pauses():
            try:
                return self._stepped(case)
            except RuntimeUnreachable as silence:
                self._silence = str(silence)
                case = self._kept(replace(case, silence=self._silence))
            if self._stopping.is_set():
                break
            if self._clock() >= self._patience_ends_ns(case):
                return self._silent(case)
            log.warning("container runtime silent, asking again", why=case.silence, **_named(case))
            self._stopping.wait(pause_s)
        return case

    def _stepped(self, case: Case) -> Case:
        """One step, asked once. Raises: RuntimeUnreachable."""
        try:
            after = self._steps[case.step](case)
        except ContainerGone as gone:
            return self._gone(case, str(gone))
        except (RuntimeUnreachable, StoreFailed):
            raise
        except ContainerRuntimeError as refusal:
            return self._refused_by_platform(case, str(refusal))
        except Exception as fault:  # one order's fault must not end the responder
            log.exception("response failed", **_named(case))
            return self._refused_by_platform(case, f"internal fault: {fault!r}")
        return after

    def _begin(self, case: Case) -> Case:
        if case.order.action is Action.RELEASE:
            return self._release(case)
        if case.order.action is Action.EXTEND:
            return self._extend(case)
        if self._late(case):
            return self._failed(case, self._too_late(case))
        found = self._platform.find(case.order.subject)
        self._silence = ""
        if not found:
            raise ContainerGone(f"container {case.order.subject[:12]} does not exist here")
        seen = self._witness.look(case.order, Phase.VOLATILE)
        until_ns = self._until(case.order.action, case.order.until_ns)
        return self._kept(replace(case, step=Step.WITNESSED, until_ns=until_ns, submissions=seen))

    def _prepare(self, case: Case) -> Case:
        """Record how the subject is, for the first rung with nothing in its way."""
        if not case.rungs and self._late(case):
            return self._failed(case, self._too_late(case))
        subject, passed = case.order.subject, case.passed
        for action in _ladder(case)[len(case.rungs) + len(passed) :]:
            obstacle = self._obstacle(action, subject)
            if not obstacle:
                before = self._platform.snapshot(action, subject, self._standing(case))
                rungs = (*case.rungs, Rung(action, orjson.dumps(before)))
                return self._kept(replace(case, step=Step.PREPARED, rungs=rungs, passed=passed))
            passed = (*passed, f"{action}: {obstacle}")
        return self._conclude(replace(case, passed=passed))

    def _act(self, case: Case) -> Case:
        rung, uid = case.rungs[-1], case.uid
        done = self._platform.carry_out(rung.action, case.order.subject, uid, _before(rung))
        rung = replace(rung, detail=done.detail, replacement=done.replacement)
        return self._kept(replace(case, step=Step.ACTED, rungs=(*case.rungs[:-1], rung)))

    def _verify(self, case: Case) -> Case:
        rung = case.rungs[-1]
        acted = Acted(rung.detail, rung.replacement)
        checks = self._platform.verify(rung.action, case.order.subject, _before(rung), acted)
        case = replace(case, rungs=(*case.rungs[:-1], replace(rung, checks=checks)))
        if all(check.passed for check in checks):
            return self._conclude(case)
        return self._escalate(case)

    def _undo(self, case: Case) -> Case:
        """Put back what each rung found, the last one first."""
        said = []
        for rung in reversed(case.rungs):
            other = self._holder(case, rung.action)
            if other:
                said.append(f"{rung.action}: kept, order {other} holds it too")
                continue
            undone = self._platform.undo(rung.action, case.order.subject, case.uid, _before(rung))
            missing = f"; not put back: {', '.join(undone.missing)}" if undone.missing else ""
            said.append(f"{rung.action}: {undone.detail}{missing}")
        return self._ended(case, "; ".join(said) or "nothing had been done")

    # ---- ways on --------------------------------------------------------------------------

    def _escalate(self, case: Case) -> Case:
        if len(case.rungs) + len(case.passed) >= len(_ladder(case)):
            return self._conclude(case)
        rung = case.rungs[-1]
        log.warning(
            "not verified: next rung", tried=rung.action, why=_unverified(rung), **_named(case)
        )
        return self._kept(replace(case, step=Step.WITNESSED))

    def _conclude(self, case: Case) -> Case:
        """No further rung is needed, or there is none."""
        if not case.rungs:
            return self._refused(case, "; ".join(case.passed))
        if all(rung.failed for rung in case.rungs):
            return self._failed(case, _story(case))
        outcome = self._done(case, "acted", case.submissions)
        said = log.warning if outcome.verified is False else log.info
        said(
            "order carried out", done=outcome.action, verified=outcome.verified,
            took_s=round(outcome.took_s, 3), **_named(case),
        )  # fmt: skip  # pairs in lines
        told = replace(case, step=Step.TOLD, submissions=(), took_s=outcome.took_s)
        return self._kept(told, outcome)

    def _refused_by_platform(self, case: Case, why: str) -> Case:
        """It answered, and did not do it."""
        if case.step is Step.ENDING:
            return self._troubled(case, why)
        if case.step not in (Step.PREPARED, Step.ACTED):
            return self._failed(case, why)
        log.error("action failed", why=why, **_named(case))
        rung = replace(case.rungs[-1], failed=True, detail=f"failed: {why}")
        return self._escalate(replace(case, rungs=(*case.rungs[:-1], rung)))

    def _silent(self, case: Case) -> Case:
        if case.step is Step.ENDING:
            return self._troubled(case, case.silence)
        return self._failed(case, f"{case.silence}; asked again until the order's time was over")

    def _gone(self, case: Case, why: str) -> Case:
        if case.step is Step.ENDING:
            return self._ended(case, f"nothing to put back: {why}")
        log.error("container vanished", why=why, **_named(case))
        outcome = self._outcome(
            case, Status.FAILED, "gone", f"it vanished: {why}", case.submissions
        )
        return self._kept(replace(case, step=Step.ENDED, submissions=()), outcome)

    def _failed(self, case: Case, why: str) -> Case:
        """What was begun stays in hand, so that its end undoes whatever part of it is there."""
        log.error("order failed", why=why, **_named(case))
        outcome = self._outcome(case, Status.FAILED, "failed", why, case.submissions)
        step = Step.HELD if case.rungs else Step.ENDED
        return self._kept(replace(case, step=step, submissions=()), outcome)

    def _refused(self, case: Case, why: str) -> Case:
        log.warning("order refused", why=why, **_named(case))
        outcome = self._outcome(case, Status.REFUSED, "refused", why, case.submissions)
        return self._kept(replace(case, step=Step.ENDED, submissions=()), outcome)

    def _troubled(self, case: Case, why: str) -> Case:
        """The end does not succeed yet: said once, tried again for as long as it takes."""
        log.error(
            "not put back, trying on", why=why, todo="look at the container runtime",
            **_named(case),
        )  # fmt: skip  # pairs in lines
        if not case.troubled:
            detail = f"not put back yet, trying on: {why}"
            outcome = self._outcome(case, Status.FAILED, "ending", detail)
            self._store.keep(replace(case, troubled=True), tell=[outcome])
        return case

    def _ended(self, case: Case, said: str) -> Case:
        by = f"order {case.ended_by}" if case.ended_by else "its time ran out"
        log.info("released", by=by, said=said, **_named(case))
        outcome = self._outcome(case, Status.RELEASED, "released", f"{by}; {said}")
        # What was there before is put back now, and may hold secrets: not kept any longer.
        rungs = tuple(replace(rung, before=b"{}") for rung in case.rungs)
        return self._kept(replace(case, step=Step.ENDED, rungs=rungs), outcome)

    # ---- orders about orders --------------------------------------------------------------

    def _release(self, case: Case) -> Case:
        target, why = self._target(case)
        if target is None:
            return self._refused(case, why)
        if target.step is not Step.ENDED:
            target = self._advance(self._kept(replace(target, step=Step.ENDING, ended_by=case.uid)))
        if target.step is not Step.ENDED:
            return self._failed(case, f"order {target.uid} is not put back yet, trying on")
        detail = f"order {target.uid} has ended"
        outcome = self._outcome(case, Status.RELEASED, "released", detail)
        return self._kept(replace(case, step=Step.ENDED), outcome)

    def _extend(self, case: Case) -> Case:
        target, why = self._target(case)
        if target is None:
            return self._refused(case, why)
        until_ns = self._until(target.order.action, case.order.until_ns)
        if target.step in (Step.ENDING, Step.ENDED) or until_ns <= self._clock():
            return self._refused(case, f"order {target.uid} has ended, or would by this word")
        detail = f"order {target.uid} lasts {(until_ns - self._clock()) / 1e9:.0f} s from now"
        outcome = self._outcome(case, Status.DONE, "done", detail)
        extended = replace(target, until_ns=until_ns)
        self._store.keep(extended, replace(case, step=Step.ENDED), tell=[outcome])
        return replace(case, step=Step.ENDED)

    def _target(self, case: Case) -> tuple[Case | None, str]:
        target = self._store.case(case.order.undoes) if case.order.undoes else None
        if target is None:
            return None, f"no order {case.order.undoes!r} is known here"
        if target.order.subject != case.order.subject:
            return None, f"order {target.uid} is about {target.order.subject[:64]}"
        return target, ""

    # ---- small things ---------------------------------------------------------------------

    def _lock(self, subject: str) -> threading.Lock:
        return self._locks[hash(subject) % len(self._locks)]

    def _kept(self, case: Case, *tell: Outcome) -> Case:
        self._store.keep(case, tell=tell)
        return case

    def _over(self, case: Case) -> bool:
        running = case.step in (Step.WITNESSED, Step.PREPARED, Step.ACTED)
        return running and 0 < case.until_ns <= self._clock()

    def _late(self, case: Case) -> bool:
        return self._clock() > case.order.deadline_ns

    def _too_late(self, case: Case) -> str:
        """With the silence that used the time up: its own, or of those that it waited behind."""
        silence = case.silence or self._silence
        said = "its deadline passed before it could be begun"
        return f"{said}; meanwhile: {silence}" if silence else said

    def _until(self, action: Action, asked_ns: int) -> int:
        """When it ends by itself: what the order asks, within what this responder allows."""
        if not asked_ns and action in ENDLESS:
            return 0
        most_ns = self._clock() + self._ttl_ns
        return min(asked_ns, most_ns) if asked_ns else most_ns

    def _obstacle(self, action: Action, subject: str) -> str:
        if action not in self._platform.about.actions:
            return f"{self._platform.about.name} does not do it"
        return self._platform.obstacle(action, subject)

    def _standing(self, case: Case) -> dict[Action, State]:
        """What was there before anything of ours: of each action, the oldest record."""
        found: dict[Action, State] = {}
        for other in (*self._store.in_force(case.order.subject), case):
            for rung in other.rungs:
                found.setdefault(rung.action, _before(rung))
        return found

    def _holder(self, case: Case, action: Action) -> str:
        """Another order that has the same action in force on the same subject."""
        for other in self._store.in_force(case.order.subject):
            same = any(rung.action is action for rung in other.rungs)
            if same and other.uid != case.uid and other.step is not Step.ENDING:
                return other.uid
        return ""

    def _patience_ends_ns(self, case: Case) -> int:
        """Until when a silent platform is asked again."""
        begun = bool(case.rungs) or case.step is Step.ENDING
        return case.order.deadline_ns + (BEGUN_NS if begun else 0)

    def _done(self, case: Case, stage: str, submissions: tuple[Submission, ...]) -> Outcome:
        rung = next(rung for rung in reversed(case.rungs) if not rung.failed)
        verified = all(check.passed for check in rung.checks) if rung.checks else None
        outcome = self._outcome(case, Status.DONE, stage, _story(case), submissions)
        return replace(
            outcome, action=rung.action, verified=verified, checks=rung.checks,
            replacement=rung.replacement,
        )  # fmt: skip  # pairs in lines

    def _outcome(
        self,
        case: Case,
        status: Status,
        stage: str,
        detail: str,
        submissions: tuple[Submission, ...] = (),
    ) -> Outcome:
        now_ns, order = self._clock(), case.order
        return Outcome(
            uid=f"{order.uid}/{status}/{stage}",
            order=order.uid,
            scope=order.scope,
            incident=order.incident,
            subject=order.subject,
            host=order.host,
            action=order.action,
            status=status,
            at_ns=now_ns,
            detail=detail[:4000],
            took_s=max(0, now_ns - case.arrived_ns) / 1e9,
            submissions=submissions,
        )


def _pauses() -> Iterator[float]:
    """Seconds between two questions to a silent platform: soon at first, then patiently."""
    pause_s = RETRY_FIRST_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 2, RETRY_MOST_S)


def _ladder(case: Case) -> tuple[Action, ...]:
    """What to try, in turn; a rung named twice is tried once."""
    return tuple(dict.fromkeys((case.order.action, *case.order.ladder)))


def _before(rung: Rung) -> State:
    state: State = orjson.loads(rung.before)
    return state


def _story(case: Case) -> str:
    """What was tried, what came of it, in the order of trying."""
    told = list(case.passed)
    for rung in case.rungs:
        failed = f" (not verified: {_unverified(rung)})" if _unverified(rung) else ""
        told.append(f"{rung.action}: {rung.detail}{failed}")
    return "; ".join(told)


def _unverified(rung: Rung) -> str:
    return ", ".join(
        f"{check.name} {check.detail}".strip() for check in rung.checks if not check.passed
    )


def _named(case: Case) -> dict[str, str]:
    order = case.order
    return {
        "order": order.uid,
        "incident": order.incident,
        "action": order.action.value,
        "subject": order.subject,
    }
