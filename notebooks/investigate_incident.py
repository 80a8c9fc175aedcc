# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What happened to this container?
#
# From the archive: what was said of it and when, what it did beside its siblings, what was new, and
# what was done about it. The functions are those of `plimsoll explain --replay`. Orders are shown
# as they lie in the archive; whether they were signed is what `plimsoll incident` checks.

# %% tags=["parameters"]
from streams.settings import load

settings = load()
ARCHIVE = settings.archive_dir
"""The archive's folder, or a copy of it; PLIMSOLL_ARCHIVE_DIR names another one."""
SINCE = "24h"
UNTIL = "now"
"""Where to look for verdicts: 6h (before the archive's end), now (its end), a date (UTC)."""
TARGET = ""
"""An incident, a container's name or the beginning of its id; empty: the worst of the window."""
AROUND_S = 600
"""So much before the first word and after the last one is shown."""

# %%
from itertools import pairwise
from pathlib import Path

from drawing import (
    ALARM,
    BAND,
    LEVELS,
    LINE,
    QUIET,
    amounts,
    clock,
    legend,
    mark,
    panels,
    short,
    times,
)
from matplotlib import pyplot as plt

from models.contract import Topics
from models.detectors.forest import Forest
from models.features import FEATURES, INDEX, MEASURED
from models.pipeline import Core, Models
from models.reasons import amount
from models.records.order import Order, Outcome
from models.records.verdict import Finding, Verdict
from streams.archive.decided import said
from streams.archive.layout import day_of
from streams.archive.telemetry import ArchivedTelemetry
from streams.archive.views import asked, given, opened
from streams.commands.output import show
from streams.commands.times import clock as date
from streams.commands.times import moment
from streams.explaining import course_of, looked_at
from streams.lessons import trusted
from streams.report.rows import reasons, trait
from streams.report.words import clean
from streams.stores.models import ModelStore

ARCHIVE = Path(ARCHIVE)
topic = Topics(settings.topic_prefix).telemetry
source = ArchivedTelemetry(ARCHIVE, topic, trusted(settings.keys_dir))
begins_ns, ends_ns = source.span()
window = max(moment(SINCE, ends_ns), begins_ns), min(moment(UNTIL, ends_ns), ends_ns)

# %% [markdown]
# ## What was said

# %%
findings = said(ARCHIVE, Finding, settings.scope, window)
verdicts = said(ARCHIVE, Verdict, settings.scope, window) + [one.verdict for one in findings]
orders = said(ARCHIVE, Order, settings.scope, window)
if not verdicts:
    raise SystemExit("no verdict in the window: look further back with SINCE")
worst = max(verdicts, key=lambda one: (one.level.rank, one.score))
of_incident = {order.incident: order.subject for order in orders}
course = course_of(verdicts, of_incident.get(TARGET, TARGET) or worst.subject)
found = course.turning
name = clean(found.name or found.subject[:12])
orders = [order for order in orders if order.subject == found.subject]
outcomes = [one for one in said(ARCHIVE, Outcome, settings.scope, window)
            if one.subject == found.subject]  # fmt: skip  # one condition

print(f"{name} of {short(found.image)} on host {found.host}: {found.level} at {date(found.at_ns)}")
show(reasons(found), as_json=False)
for order in orders:
    print(f"{date(order.issued_ns)} ordered: {order.action} (incident {order.incident})")
for outcome in outcomes:
    checked = {True: "verified", False: "NOT verified", None: "nothing to verify"}
    print(f"{date(outcome.at_ns)} {outcome.status}: {outcome.action}, {checked[outcome.verified]}")

# %% [markdown]
# ## As the judge saw it
#
# Its lineage is judged once more up to the first verdict of the highest level. What siblings do as
# well is taken off; what is left is held against the line.

# %%
forests: tuple[tuple[int, Forest], ...] = ()
if found.model:
    forests = ((0, ModelStore(settings.models_dir).forest(found.model)),)
core = Core(Models(forests), settings.worker.detection)
portrait = looked_at(source, core, found)
if portrait is None:
    print("the archive does not lead to that verdict: it begins too late, or the models, the "
          "budget or the release were others then")  # fmt: skip  # one sentence
else:
    show([trait(one) for one in portrait.traits[:8]], as_json=False)
    shown = [one for one in portrait.traits if abs(one.left) >= 0.5][:10][::-1]
    figure, ax = plt.subplots(figsize=(9, 0.9 + 0.34 * len(shown)))
    says = [FEATURES[INDEX[one.feature]].says for one in shown]
    ax.barh(says, [one.off for one in shown], height=0.75, color=BAND, label="departure")
    ax.barh(says, [one.left for one in shown], height=0.4, color=LINE,
            label="left, without what siblings share")  # fmt: skip  # one call
    for place, one in enumerate(shown):
        if one.value is not None:
            ax.annotate(amount(one.value, one.unit), (one.off, place), va="center", fontsize=8,
                        xytext=(4 if one.off >= 0 else -4, 0), textcoords="offset points",
                        ha="left" if one.off >= 0 else "right")  # fmt: skip  # one call
    for side in (-portrait.line, portrait.line):
        ax.axvline(side, color=ALARM, linewidth=1, linestyle=(0, (3, 2)))
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.margins(x=0.15)
    ax.set_xlabel("deviations; dashed: the image's line")
    ax.set_title(f"{name} when it was found {found.level}, beside {portrait.siblings} siblings")
    ax.legend(loc="best", fontsize=8)

# %% [markdown]
# ## Before, during, after
#
# The features that speak most, of the container and of its siblings; the band is what was usual
# when it was found.

# %%
from_ns = course.verdicts[0].from_ns - AROUND_S * 10**9
until_ns = course.verdicts[-1].at_ns + AROUND_S * 10**9
archive = opened(ARCHIVE, settings.archive.team_labels, since=day_of(from_ns // 10**6))
given(
    archive, since=from_ns // 1000, until=until_ns // 1000, scope=found.scope,
    lineage=found.lineage, role=found.role, subject=found.subject,
)  # fmt: skip  # one call
OURS = """time >= make_timestamp(getvariable('since'))
    AND time < make_timestamp(getvariable('until')) AND scope = getvariable('scope')
    AND lineage = getvariable('lineage') AND role = getvariable('role')"""

told = [one.feature for one in found.reasons if one.feature]
told += [one.feature for one in portrait.traits] if portrait else [one.name for one in MEASURED]
columns = {one.name for one in MEASURED}
speaking = [one for one in dict.fromkeys(told) if one in columns][:6]
series = asked(archive, f"""
    SELECT subject, time, {", ".join(speaking)} FROM samples WHERE {OURS} ORDER BY subject, time
    """).fetchnumpy()  # fmt: skip  # one query
usual = {one.feature: one for one in portrait.traits} if portrait else {}
figure, axes = panels(1 + len(speaking), 1, f"{name} and its siblings", each=(11, 1.35), first=0.5)

strip = axes[0]
for word, following in pairwise([*course.verdicts, None]):
    assert word is not None  # only the last one is
    ends = following.at_ns if following else word.at_ns + 30 * 10**9
    strip.axvspan(*times([word.at_ns, ends]), color=LEVELS[word.level.value])
strip.set_yticks([])
strip.set_title("level (until the next word)")
for level in dict.fromkeys(one.level.value for one in course.verdicts):
    strip.fill_between([], [], color=LEVELS[level], label=level)
strip.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=5, fontsize=8)
for ax, feature in zip(axes[1:], speaking, strict=True):
    band = usual.get(feature)
    if band and band.low is not None:
        ax.axhspan(band.low, band.high, color=BAND, label="usual", zorder=0)
    for subject in dict.fromkeys(series["subject"]):
        mine, ours = series["subject"] == subject, subject == found.subject
        ax.plot(series["time"][mine], series[feature][mine], linewidth=1.5 if ours else 0.8,
                color=ALARM if ours else QUIET, zorder=3 if ours else 2,
                label=name if ours else "siblings")  # fmt: skip  # one call
    amounts(ax, feature)
for ax in axes:
    clock(ax)
    mark(ax, found.at_ns)
    for outcome in outcomes:
        mark(ax, outcome.at_ns, color=LINE)
happened = [f"found {found.level}", *(f"{one.action} {one.status}" for one in outcomes)]
mark(axes[1], found.at_ns, "\n".join(happened))
strip.set_xlim(*times([max(from_ns, begins_ns), min(until_ns, ends_ns)]))
legend(axes[1], axes[1], "upper left")

# %% [markdown]
# ## What was new
#
# What this container showed for the first time in the window, and no sibling had shown before.

# %%
new = asked(archive, f"""
    SELECT min(time) AS first, kind, what, count(*) AS times,
        count(DISTINCT subject) AS containers
    FROM observations WHERE {OURS}
    GROUP BY kind, what
    HAVING arg_min(subject, time) = getvariable('subject')
        AND first > make_timestamp(getvariable('since')) + to_seconds({AROUND_S} / 2)
    ORDER BY first LIMIT 20""").fetchall()  # fmt: skip  # one query
show(
    [{"first": str(first)[:19], "kind": kind, "what": clean(what), "times": count,
      "containers": containers} for first, kind, what, count, containers in new],
    as_json=False, empty="nothing: it did more, or less, of what it always did",
)  # fmt: skip  # one call
