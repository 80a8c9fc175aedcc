"""The governor's step: what a finding leads to, what is withheld, what operators change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.governor import Packer, pack, unpack
from models.guards import allowed
from models.incident import Stage
from models.policy import Guards, Mode, Policy, Protected, Times
from models.records.codec import decode
from models.records.control import Verb
from models.records.order import Action, Order, Status, Submission
from models.records.verdict import Level
from models.words import WordAnswer
from tests.core.governing import (
    ENFORCE,
    SECOND_NS,
    START_NS,
    Bench,
    finding,
    outcome,
    subject,
    tick,
    word,
)


def guarded(**guards: Any) -> Policy:
    return replace(ENFORCE, guards=Guards(**guards))


# ---- findings -----------------------------------------------------------------------------


def test_a_compromised_container_is_isolated_with_a_ladder_and_an_end() -> None:
    """The whole point: an order that a responder can carry out alone, and that ends."""
    bench = Bench()
    bench.take(finding())

    (order,) = bench.orders
    assert (order.action, order.subject, order.host) == (Action.ISOLATE, subject(1), "h1")
    assert order.ladder == (Action.PAUSE, Action.STOP)
    assert order.deadline_ns - order.issued_ns == 30 * SECOND_NS
    assert order.until_ns - order.issued_ns == 3600 * SECOND_NS
    assert bench.stage() is Stage.ORDERED
    assert [exhibit.kind for exhibit in bench.exhibits] == ["finding", "order"]


@pytest.mark.parametrize(
    ("level", "action"),
    [(Level.CORRUPTED, Action.REDEPLOY), (Level.SUSPECT, None), (Level.WATCH, None)],
)
def test_other_levels_call_for_less(level: Level, action: Action | None) -> None:
    """A leak is redeployed, never isolated; a suspicion is told, never acted upon."""
    bench = Bench()
    bench.take(finding(level))

    assert [order.action for order in bench.orders] == ([action] if action else [])
    assert len(bench.alerts) == 1


def test_later_findings_of_a_subject_join_and_are_covered() -> None:
    """An incident is a container's, not a finding's; and nothing is ordered twice."""
    bench = Bench()
    bench.take(finding(), finding(at_s=5), finding(Level.SUSPECT, at_s=9), finding(at_s=12))

    assert bench.incident.findings == 4
    assert bench.incident.level is Level.COMPROMISED
    assert len(bench.orders) == 1


def test_a_fault_that_turns_out_to_be_an_attack_is_isolated_after_all() -> None:
    """The redeployment under way does not cover what is now known."""
    bench = Bench()
    bench.take(finding(Level.CORRUPTED), finding(Level.COMPROMISED, at_s=5))

    assert [order.action for order in bench.orders] == [Action.REDEPLOY, Action.ISOLATE]


def test_a_finding_that_came_again_changes_nothing() -> None:
    """A judge that was killed sends its last findings once more."""
    bench = Bench()
    bench.take(finding())
    before = bench.state
    again = bench.take(finding())

    assert (again.orders, again.alerts, again.exhibits) == ((), (), ())
    assert again.state.incidents == before.incidents


def test_a_finding_that_comes_again_long_after_does_not_open_its_incident_anew() -> None:
    """Its orders would have the ids of those of then, and be refused as replayed."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]))
    bench.take(outcome(bench.orders[0], Status.RELEASED, 3600, stage="released"))
    bench.take(tick(8000), tick(12000))
    assert not bench.state.incidents

    bench.take(finding())
    assert not bench.state.incidents
    bench.take(tick(8 * 86_400))
    assert not bench.state.over  # telemetry so old is nowhere to be judged again


def test_what_was_ordered_once_more_is_not_ordered_again_when_the_first_fails_late() -> None:
    """A responder that wakes up answers all it slept through."""
    bench = Bench()
    bench.take(finding(), tick(50))
    assert len(bench.orders) == 2

    bench.take(outcome(bench.orders[0], Status.FAILED, 51))
    assert len(bench.orders) == 2


# ---- guards -------------------------------------------------------------------------------


def test_observe_says_what_it_would_have_done() -> None:
    """Trust is earned by an evening of reading alerts."""
    bench = Bench(Policy())
    bench.take(finding())

    assert bench.orders == []
    assert bench.incident.said == ("would have isolated; refused: the policy's mode is observe",)
    assert bench.stage() is Stage.PROPOSED


def test_no_more_of_an_image_than_its_share_is_taken_out() -> None:
    """A false alarm on all replicas at once must not become an outage of our making."""
    bench = Bench(guarded(largest_share=0.5))
    bench.take(*(finding(container=number, at_s=number) for number in (1, 2, 3)))

    assert len(bench.orders) == allowed(4, 0.5) == 2
    (refused,) = [one for one in bench.state.incidents.values() if one.said]
    assert "2 of 4 replicas of registry/shop/cart are out of service" in refused.said[0]
    assert "(limit 50%)" in refused.said[0]
    assert bench.noted("refused") == ["share"]


@pytest.mark.parametrize(
    ("policy", "guard"),
    [
        (guarded(healthy_floor=4), "floor"),
        (guarded(per_hour=0), "rate"),
        (replace(ENFORCE, protected=Protected(lineages=("registry/shop/*",))), "protected"),
        (replace(ENFORCE, protected=Protected(hosts=("h1",))), "protected"),
        (replace(ENFORCE, protected=Protected(subjects=("cart-?",))), "protected"),
    ],
)
def test_a_guard_that_refuses_is_named(policy: Policy, guard: str) -> None:
    """Who asks at night why nothing happened needs the reason, not the code."""
    bench = Bench(policy)
    bench.take(finding())

    assert bench.orders == []
    assert bench.noted("refused") == [guard]
    assert bench.incident.said[0].startswith("would have isolated; refused: ")


def test_a_late_finding_alerts_and_orders_nothing() -> None:
    """What is isolated an hour later is another container's life."""
    bench = Bench()
    bench.take(finding(late_s=61))
    bench.take(tick(200), finding(container=2, at_s=100))  # the judge itself was behind

    assert bench.orders == []
    assert bench.noted("refused") == ["late", "late"]
    assert len(bench.alerts) == 2


def test_what_a_cold_judge_finds_alerts_and_orders_nothing() -> None:
    """It has lost what is normal here: everything looks new to it. A person may know better."""
    bench = Bench()
    bench.take(replace(finding(), cold=True))

    assert bench.orders == []
    assert bench.noted("refused") == ["cold"]
    assert "plimsoll rebuild" in bench.incident.said[0]
    assert len(bench.alerts) == 1

    bench.take(word(Verb.APPROVE, bench.uid))
    assert [order.action for order in bench.orders] == [Action.ISOLATE]


def test_the_rate_counts_an_hour_of_event_time() -> None:
    """Ten acts an hour, then a person; an hour later, ten more."""
    bench = Bench(guarded(per_hour=2))
    for number in range(4):
        bench.take(finding(container=number, at_s=number, lineage=f"image-{number}"))
    assert len(bench.orders) == 2

    bench.take(finding(container=9, at_s=3700, lineage="image-9"))
    assert len(bench.orders) == 3


def test_hosts_are_told_and_not_acted_upon() -> None:
    """No responder can isolate a host yet; an order that nobody carries out is a lie."""
    bench = Bench()
    bench.take(finding(subject="host/h1", lineage="host/pool"))

    assert bench.orders == []
    assert bench.noted("refused") == ["host"]
    assert "container" not in bench.alerts[0].body


# ---- outcomes -----------------------------------------------------------------------------


def test_a_verified_isolation_contains_and_release_gives_back() -> None:
    """From opened to closed, as an operator would read it."""
    bench = Bench()
    bench.take(finding())
    isolate = bench.orders[0]
    bench.take(outcome(isolate))
    assert bench.stage() is Stage.CONTAINED

    bench.take(word(Verb.RELEASE, bench.uid, 5))
    release = bench.orders[1]
    assert (release.action, release.undoes) == (Action.RELEASE, isolate.uid)
    bench.take(outcome(release, Status.RELEASED, 6, stage="released"))
    assert bench.stage() is Stage.RELEASED
    assert not bench.incident.holding

    bench.take(finding(Level.QUIET, at_s=10), tick(650))
    assert bench.stage() is Stage.CLOSED
    assert [alert.change for alert in bench.alerts] == [
        "created", "updated", "updated", "updated", "closed",
    ]  # fmt: skip  # in order
    bench.take(tick(650 + 3601))
    assert bench.state.incidents == {}


def test_what_could_not_be_verified_is_said_loudly() -> None:
    """A container that still talks is worse than one nobody looked at."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0], verified=False))

    assert bench.stage() is Stage.UNVERIFIED
    assert "NOT verified" in bench.alerts[-1].body["message"]


def test_an_escalation_is_told_as_what_was_done() -> None:
    """Ordered was isolate; what holds is a pause."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0], action=Action.PAUSE))

    assert bench.incident.acts[0].action is Action.PAUSE
    assert "pause done and verified in 0.8 s" in bench.alerts[-1].body["message"]


@pytest.mark.parametrize("failure", ["failed", "silent"])
def test_a_failed_or_unanswered_order_is_given_once_more_and_then_told(failure: str) -> None:
    """Once more, under an id of its own; then a person."""
    bench = Bench(replace(ENFORCE, guards=Guards(late_s=3600)))
    bench.take(finding())
    for at_s in (60, 120):
        if failure == "failed":
            bench.take(outcome(bench.orders[-1], Status.FAILED, at_s, stage="failed"))
        else:
            bench.take(tick(at_s))

    first, second = bench.orders
    assert first.uid != second.uid
    assert second.action is Action.ISOLATE
    assert "tried 2 times, act by hand" in bench.incident.said[-1]
    assert bench.stage() is Stage.UNVERIFIED


def test_an_end_that_does_not_succeed_yet_keeps_the_container_counted() -> None:
    """The responder goes on trying; until then it is out of service by our doing."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]))
    bench.take(outcome(bench.orders[0], Status.FAILED, 9, stage="ending"))

    assert bench.incident.holding
    assert len(bench.orders) == 1


def test_an_act_ends_with_its_time_even_if_nobody_says_so() -> None:
    """Otherwise one lost outcome would take a replica out of the share for ever."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]))
    bench.take(tick(3600 + 100))
    assert bench.incident.holding
    bench.take(tick(3600 + 130))
    assert not bench.incident.holding


def test_an_order_from_before_a_crash_is_adopted() -> None:
    """It went out, its state was lost: what it holds is counted, and can be released."""
    bench, twin = Bench(Policy()), Bench()
    bench.take(finding())
    twin.take(finding())
    bench.take(outcome(twin.orders[0]))

    assert bench.incident.holding
    bench.take(word(Verb.RELEASE, bench.uid, 5))
    assert bench.orders[0].undoes == twin.orders[0].uid


def test_what_a_responder_submits_is_chained_and_its_digest_checked() -> None:
    """A piece that does not fit its digest is kept, and said to be so."""
    bench = Bench()
    bench.take(finding())
    fine = Submission("flows", "", 4, START_NS, None, "inc/abc", "too large")
    wrong = Submission("inspect", "0" * 64, 2, START_NS, b"{}")
    bench.take(outcome(bench.orders[0], submissions=(fine, wrong)))

    kinds = [(one.kind, one.detail[:24]) for one in bench.exhibits[2:]]
    assert kinds == [
        ("outcome", ""),
        ("flows", "too large"),
        ("inspect", "came with digest 0000000"),
    ]
    assert bench.heads[-1].exhibits == 5


def test_a_stray_outcome_is_noted_and_changes_nothing() -> None:
    """The outcomes topic is not signed: what fits no incident is not believed."""
    bench = Bench()
    bench.take(finding())
    before = bench.state.incidents
    bench.take(outcome(replace(bench.orders[0], incident="inc-unknown")))
    bench.take(outcome(replace(bench.orders[0], subject=subject(7))))

    assert bench.state.incidents == before
    assert len(bench.noted("stray-outcome")) == 2


# ---- words --------------------------------------------------------------------------------


def answers(bench: Bench) -> list[WordAnswer]:
    return [decode(WordAnswer, c.body) for c in bench.control if c.key.startswith("word/")]


def test_approve_carries_out_what_was_proposed() -> None:
    """In mode approve a person decides, even minutes later; the guards still hold."""
    bench = Bench(Policy(mode=Mode.APPROVE))
    bench.take(finding())
    assert bench.orders == []
    assert f"plimsoll incident approve {bench.uid}" in bench.incident.said[0]

    bench.take(word(Verb.APPROVE, bench.uid, 300))
    assert [order.action for order in bench.orders] == [Action.ISOLATE]
    assert answers(bench)[-1].accepted


def test_an_approval_does_not_lift_the_guards() -> None:
    """One person in a hurry is what the share is for."""
    bench = Bench(replace(guarded(per_hour=0), mode=Mode.APPROVE))
    bench.take(finding())
    bench.take(word(Verb.APPROVE, bench.uid))

    assert bench.orders == []
    assert not answers(bench)[-1].accepted
    assert "last hour" in answers(bench)[-1].detail


def test_the_kill_switch_stops_orders_and_not_releases() -> None:
    """Whoever stops everything must still be able to give back what was taken."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]), word(Verb.STOP, at_s=3))
    bench.take(finding(container=2, at_s=4, lineage="other"))
    assert len(bench.orders) == 1
    assert bench.noted("refused") == ["switch"]

    bench.take(word(Verb.RELEASE, next(iter(bench.state.incidents)), 5))
    assert bench.last_action() is Action.RELEASE
    bench.take(word(Verb.RESUME, at_s=6), finding(container=3, at_s=7, lineage="third"))
    assert bench.last_action() is Action.ISOLATE
    assert [c.body for c in bench.control if c.key == "switch"][-1] is None


def test_a_hold_on_what_nobody_has_heard_of_says_so() -> None:
    """It is accepted, for what may come; but mostly it is a slip of the pen."""
    until_ns = START_NS + 100 * SECOND_NS
    bench = Bench()
    bench.take(finding())
    bench.take(word(Verb.HOLD, "registry/shop/crat", 1, until_ns=until_ns))
    bench.take(word(Verb.HOLD, "registry/shop/cart", 2, until_ns=until_ns))

    misspelt, right = answers(bench)[-2:]
    assert misspelt.accepted
    assert "no incident is about it" in misspelt.detail
    assert "no incident" not in right.detail


@pytest.mark.parametrize(
    "target",
    ["registry/shop/cart", "default/registry/shop/cart/web", subject(1), "cart-1"],
)
def test_hold_and_suppress_last_until_their_end(target: str) -> None:
    """A maintenance window ends by itself, since nobody remembers to end it."""
    until_ns = START_NS + 100 * SECOND_NS
    held, suppressed = Bench(), Bench()
    held.take(word(Verb.HOLD, target, 0, until_ns=until_ns), finding(at_s=1))
    suppressed.take(word(Verb.SUPPRESS, target, 0, until_ns=until_ns), finding(at_s=1))

    assert (held.orders, held.noted("refused")) == ([], ["hold"])
    assert suppressed.state.incidents == {}
    assert len(suppressed.noted("suppressed")) == 1
    held.take(tick(101), finding(container=1, at_s=102))
    assert len(held.orders) == 1
    assert held.control[-1].body is None


def test_dismiss_releases_and_closes() -> None:
    """A false alarm must cost one word."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]), word(Verb.DISMISS, bench.uid, 5, because="a test of ours"))

    assert bench.stage() is Stage.DISMISSED
    assert bench.last_action() is Action.RELEASE
    assert bench.alerts[-1].change == "closed"
    assert "a test of ours" in bench.incident.said[-1]


def test_confirm_and_extend_are_told_and_kept() -> None:
    """What a person knows belongs into the record."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]), word(Verb.CONFIRM, bench.uid, 5))
    until_ns = START_NS + 7200 * SECOND_NS
    bench.take(word(Verb.EXTEND, bench.uid, 6, until_ns=until_ns))
    extend = bench.orders[-1]
    bench.take(outcome(extend, at_s=7, stage="done"))

    assert bench.incident.confirmed_by == "ann"
    assert (extend.action, extend.until_ns) == (Action.EXTEND, until_ns)
    bench.take(tick(3600 + 130))
    assert bench.incident.holding
    assert [one.kind for one in bench.exhibits].count("word") == 2


def test_after_a_release_by_a_person_nothing_is_ordered_again() -> None:
    """Otherwise the next finding fights the operator."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]), word(Verb.RELEASE, bench.uid, 3))
    bench.take(outcome(bench.orders[1], Status.RELEASED, 4, stage="released"))
    bench.take(finding(at_s=5))

    assert len(bench.orders) == 2
    assert "ann released this incident" in bench.incident.said[-1]


def test_a_word_is_heard_once_and_not_when_it_is_old() -> None:
    """A recorded word played again must not release what it once released."""
    bench = Bench()
    bench.take(finding())
    bench.take(outcome(bench.orders[0]))
    release = word(Verb.RELEASE, bench.uid, 3)
    bench.take(release, release)
    assert [order.action for order in bench.orders].count(Action.RELEASE) == 1

    from models.governance import govern

    late = govern(bench.state, word(Verb.STOP, at_s=4), START_NS + 4000 * SECOND_NS, ENFORCE)
    assert late.state.words == {}
    assert [note.change for note in late.notes] == ["word-refused"]


# ---- rows ---------------------------------------------------------------------------------


def test_rows_hold_all_that_is_known() -> None:
    """What the standby reads must be what the governor knew."""
    bench = Bench()
    bench.take(word(Verb.STOP, at_s=0), word(Verb.RESUME, at_s=0.1), finding())
    bench.take(outcome(bench.orders[0]), finding(container=2, at_s=3), word(Verb.STOP, at_s=4))
    packer = Packer()
    packer.pack(bench.state)
    bench.take(finding(container=5, at_s=5))

    assert unpack(pack(bench.state)) == bench.state
    assert packer.pack(bench.state) == pack(bench.state)


def test_closing_waits_for_what_is_held() -> None:
    """An incident is not over while a container is cut off."""
    bench = Bench(replace(ENFORCE, times=Times(ttl_s=10_000)))
    bench.take(finding())
    bench.take(outcome(bench.orders[0]), finding(Level.QUIET, at_s=10), tick(5000))
    assert bench.stage() is Stage.CONTAINED


def test_containers_of_one_host_that_fall_together_speak_for_the_host() -> None:
    """Three at once are not three accidents."""
    bench = Bench(Policy())
    for number in (3, 6, 9):
        bench.take(finding(container=number, at_s=number, lineage=f"image-{number}"))

    last = list(bench.state.incidents.values())[-1]
    assert len(last.related) == 2
    assert any("look at the host itself" in said for said in last.said)


def test_a_redeployed_container_says_nothing_more_and_closes() -> None:
    """The old one is stopped: no quiet finding will ever come."""
    bench = Bench()
    bench.take(finding(Level.CORRUPTED))
    order: Order = bench.orders[0]
    bench.take(outcome(order, replacement="f" * 64), tick(700))
    assert bench.stage() is Stage.CLOSED
    assert bench.alerts[-1].body["unmapped"]["actions"][0]["replacement"] == "f" * 64
