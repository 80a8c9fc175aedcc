"""What sets in is told by the very functions that are evaluated, and within its budget."""

from __future__ import annotations

import copy
import dataclasses
import functools
import struct

import numpy as np
import orjson
import pytest

from models.budget import BEFORE, ROWS, TICKETS, Line, allowed
from models.crowd import Crowd
from models.detection import Detection
from models.detectors.forest import Forest
from models.detectors.rarity import WEAK
from models.detectors.unseen import Range
from models.features import NAMES, NOISE, SIZE, Array, measured, transform
from models.following import Followed
from models.history import History, learned
from models.magnitudes import own_level, usual
from models.members import HIGHEST, KNOWN, LEVEL, LEVELS, LOWEST, RECENT, WORTH
from models.onset import Onset
from models.pieces import Bench, Said, onset
from models.pipeline import Core, Models, judge, look
from models.records.facts import Fact
from models.records.telemetry import Batch
from models.records.verdict import Evidence, Family, Level, Reason, Verdict
from models.scale import Scale
from models.state import LineageState, pack, unpack
from models.training import fit
from models.verdict import Piece, level_of
from models.watch import Known, Watch, taught
from models.watch import judge as evaluated
from tests.core.fleet import OPENED, PROCESSES, START_NS, Lineage
from tests.core.fleet import Watch as Live

DETECTION = Detection()


def warm(kind: str = "database", seed: int = 3, hours: float = 0.6) -> tuple[Lineage, Live]:
    lineage, live = Lineage(kind, seed, 5.0), Live(Core())
    live.run([lineage], hours * 3_600)
    return lineage, live


@functools.cache
def trained(kind: str) -> tuple[Lineage, Live, Forest, list[Array]]:
    """Shared, so never to be changed: half an hour, the model of it, and its rows."""
    lineage, live, rows = Lineage(kind, 3, 5.0), Live(Core()), dict[str, list[Array]]()
    off: list[Array] = []
    for _ in range(432):
        arrivals = lineage.next()
        for batch in (one.record for one in arrivals if isinstance(one.record, Batch)):
            looked = look(live.states, batch)
            off.append(looked.deviations)
            for subject, part in looked.seen.items():
                rows.setdefault(subject, []).append(part)
        live.take(judge(live.states, arrivals, live.core))
    seen = [np.concatenate(parts) for parts in rows.values()]
    trees = fit(np.concatenate(off), NAMES, 1, trees=3, uid="m1")
    model = Forest(dataclasses.replace(trees, histories={lineage.group: learned(seen)}))
    return lineage, live, model, seen


def watch_of(state: LineageState, history: History | None = None) -> tuple[Watch, Array]:
    """What ``evaluate`` would hold if it knew what the live judge knows; and own levels."""
    (image,) = state.images.values()
    members, rows = state.members, np.arange(len(state.members))
    followed = members.followed.astype(np.float64)
    own = own_level(members.trust()[:, None] * members.grid[:, LEVEL])
    centre, spread = usual(Crowd.of([state]), rows)
    if history is not None:
        between = np.maximum(spread**2 - image.baseline.scale**2, 0.0)
        spread = np.sqrt(history.spread**2 + between)
    together = image.together.residual if history is None else history.residual
    scale = Scale(centre, spread)
    per_row = allowed(DETECTION.budget_alarms_per_day, state.interval_s) / len(members)
    line = Line(per_row, 720, image.onset_tail, image.onset_lift)
    shown = Range(*(scale.seen(followed[:, at] + own) for at in (LOWEST, HIGHEST)))
    levels = Followed(followed[:, LEVELS], followed[:, RECENT], members.account[:, WORTH])
    return Watch(Known(scale, together), levels, shown, line, members.account[:, KNOWN].copy()), own


@pytest.mark.parametrize("with_history", [False, True])
def test_live_and_evaluated_are_one(with_history: bool) -> None:
    """Figures of evaluate would say nothing about the live judge otherwise."""
    history: History | None = None
    if with_history:
        lineage, live, model, _ = copy.deepcopy(trained("database"))
        live.core, history = Core(Models(((0, model),))), model.history(lineage.group)
        live.run([lineage], 30)
    else:
        lineage, live = warm()
    for _ in range(20):
        (arrival,) = (a for a in lineage.next() if isinstance(a.record, Batch))
        watch, _ = watch_of(live.states[lineage.group], history)
        assert isinstance(arrival.record, Batch)
        samples = transform(measured(arrival.record.samples))[None]

        margins, _ = evaluated(watch, samples)
        live.take(judge(live.states, [arrival], live.core))

        state = live.states[lineage.group]
        (image,) = state.images.values()
        assert (watch.line.tail, watch.line.lift) == (image.onset_tail, image.onset_lift)
        levels = state.members.followed[:, LEVELS]
        assert np.array_equal(watch.followed.levels.astype(np.float32), levels)
        lasts = state.members.account[:, KNOWN][:, BEFORE]
        heights = margins[0] + watch.line.height()
        assert np.allclose(lasts, heights, atol=0.01), "but for what the line moves within a row"


def test_a_history_is_learned_as_evaluate_learns_it() -> None:
    """From the same rows, at once; but no feature is held to be surer than its noise."""
    lineage, _, model, rows = trained("web")
    history, found = model.history(lineage.group), taught(rows)
    assert history is not None
    assert np.array_equal(history.residual.whitening, found.known.residual.whitening)
    assert np.array_equal(history.spread, np.maximum(found.known.scale.spread, NOISE))
    assert history.tail == found.tail
    assert (found.known.scale.spread > NOISE).any()


def test_a_model_brings_its_history_and_takes_it_away_again() -> None:
    """Levels are on the scale of what is known: what another model knew is no measure any more."""
    lineage, live, model, _ = copy.deepcopy(trained("web"))
    from_ns, until_ns = (START_NS + int((lineage.now_s + after) * 1e9) for after in (60, 120))
    live.core = Core(Models(((from_ns, model), (until_ns, None))))
    known: dict[float, tuple[str, float]] = {}
    for _ in range(36):
        live.run([lineage], 5)
        state = live.states[lineage.group]
        (image,) = state.images.values()
        rows = state.members.account[:, KNOWN][:, ROWS]
        known[lineage.now_s] = image.taught, float(rows.max())

    begun = sorted(known)
    assert [known[at][0] for at in begun] == 11 * [""] + 12 * ["m1"] + 13 * [""]
    worth = [known[at][1] for at in begun]
    assert (worth[11], worth[22], worth[23]) == (1.0, 12.0, 1.0)
    assert worth[10] > 100.0


def test_the_tail_of_a_history_is_where_the_line_begins() -> None:
    """What was learned of rare things before would be said of another scale."""
    lineage, live, model, _ = copy.deepcopy(trained("web"))
    (image,) = live.states[lineage.group].images.values()
    history = model.history(lineage.group)
    assert history is not None
    assert image.onset_tail != history.tail

    live.core = Core(Models(((0, model),)))
    live.run([lineage], 5)

    (image,) = live.states[lineage.group].images.values()
    assert image.onset_tail == history.tail


def test_however_a_log_is_cut_a_history_gives_the_same_bits() -> None:
    """Beside lineages that have one or none, alone or not, before and after its model begins."""
    _, _, model, _ = trained("web")
    lineages = [Lineage("web", 9, 5.0), Lineage("database", 9, 5.0)]
    log = [[a for one in lineages for a in one.next()] for _ in range(120)]
    core = Core(Models(((log[60][0].record.at_ns, model),)))
    whole, apart = Live(core), Live(core)

    for start in range(0, len(log), 8):
        some = [arrival for arrivals in log[start : start + 8] for arrival in arrivals]
        whole.take(judge(whole.states, some, core))
    for one in lineages:
        for arrivals in log:
            mine = [arrival for arrival in arrivals if arrival.group == one.group]
            apart.take(judge(apart.states, mine, core))

    taught_by = [
        image.taught for one in lineages for image in whole.states[one.group].images.values()
    ]
    assert taught_by == ["m1", ""]
    for one in lineages:
        assert pack(whole.states[one.group]) == pack(apart.states[one.group])


def test_whose_history_counts_outlives_a_restart() -> None:
    """Else each restart of a worker would follow all containers anew."""
    lineage, live, model, _ = copy.deepcopy(trained("web"))
    live.core = Core(Models(((0, model),)))
    live.run([lineage], 5)
    state = live.states[lineage.group]

    back = unpack(pack(state))

    assert [image.taught for image in back.images.values()] == ["m1"]
    older = pack(state) | {"l": untaught(pack(state)["l"])}
    assert [image.taught for image in unpack(older).images.values()] == [""]


def untaught(row: bytes) -> bytes:
    """A lineage's row as releases wrote it that knew of no histories."""
    (length,) = struct.unpack_from("<I", row)
    header = orjson.loads(row[4 : 4 + length])
    header["onsets"] = {name: known[:5] for name, known in header["onsets"].items()}
    body = orjson.dumps(header)
    return struct.pack("<I", len(body)) + body + row[4 + length :]


@functools.cache
def day(kind: str) -> tuple[Lineage, Live]:
    """Shared, so never to be changed: a quiet day."""
    lineage, live = Lineage(kind, 3, 60.0), Live(Core())
    live.run([lineage], 86_400)
    return lineage, live


def onsets(live: Live) -> list[Verdict]:
    return [
        finding.verdict for finding in live.findings
        if any("all at once" in reason.text for reason in finding.verdict.reasons)
    ]  # fmt: skip  # a condition a line


def calls(lineage: Lineage, place: int, row: Array, facts: list[Fact]) -> None:
    if place == 0:
        row[OPENED] += 3
        row[PROCESSES] += 3


def test_what_sets_in_is_told_with_what_was_before() -> None:
    """Who is woken wants to know what changed, not how far off some mean it is."""
    lineage, live = copy.deepcopy(day("idle"))
    victim = lineage.pods[0].member.subject
    live.findings.clear()

    live.run([lineage], 60, calls)

    (verdict,) = onsets(live)
    assert (verdict.subject, verdict.level) == (victim, Level.WATCH)
    (text,) = (r.text for r in verdict.reasons if "all at once" in r.text)
    assert "connections opened 3 /s, just before about 0 /s" in text
    assert "processes 7, just before about 4" in text
    assert "3 siblings unchanged" in text


def test_alone_it_is_a_word_and_agrees_with_nothing() -> None:
    """What sets in may go as it came: the levels above ask for what stays."""
    _, live = day("idle")
    state = next(iter(live.states.values())).copy()
    (image,) = state.images.values()
    found = Onset(40.0, (PROCESSES, OPENED), (1.6, 1.8), (1.1, 0.0))
    bench = Bench(state, DETECTION, state.now_ns, None, Said(), {0: found})
    pieces = onset(bench, 0, image)
    fact = Reason(Family.EGRESS, Evidence.FACT, "talks to a stranger")
    stranger = Piece(Family.EGRESS, Evidence.FACT, WEAK, fact, "peer", lasted_s=60.0)
    assert level_of(pieces, bench.patience) is Level.WATCH
    assert level_of([*pieces, stranger], bench.patience) is Level.WATCH
    assert onset(bench, 1, image) == []


def test_onsets_keep_their_budget_on_a_quiet_day() -> None:
    """A false word a day and lineage, siblings share it; where nothing is ever true, up to
    :data:`TICKETS`.
    """
    tickets = sum(len(onsets(day(kind)[1])) for kind in ("web", "idle", "database"))
    assert 0 < tickets <= 3 * TICKETS, f"{tickets} in three days"


def test_nothing_is_held_against_an_image_that_is_not_known() -> None:
    """Two of a kind that were just met have no usual to depart from."""
    lineage, live = Lineage("web", 5, 5.0), Live(Core())
    live.run([lineage], 30)
    (state,) = live.states.values()
    assert not state.members.account.any(where=np.isfinite(state.members.account))
    assert state.members.followed.shape == (4, 6, SIZE)


def test_a_restart_is_no_onset() -> None:
    """What a container was like before it started anew says nothing."""
    lineage, live = warm()
    before = copy.deepcopy(lineage)
    pod = lineage.pods[0]
    pod.member = type(pod.member)(
        pod.member.subject, pod.member.host, pod.member.image, pod.member.name,
        int(pod.member.started_ns + before.now_s * 1e9),
    )  # fmt: skip  # in the order of the class
    live.findings.clear()

    live.run([lineage], 5)

    row = live.states[lineage.group].members.rows[pod.member.subject]
    assert live.states[lineage.group].members.account[row, 1] == 1.0
