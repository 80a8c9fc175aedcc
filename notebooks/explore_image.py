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
# # How does an image behave?
#
# What its containers consume, what the judge takes for usual, and whom they talk to, from the
# archive alone. The functions are those of `plimsoll query` and `plimsoll baseline`.

# %% tags=["parameters"]
from streams.settings import load

settings = load()
ARCHIVE = settings.archive_dir
"""The archive's folder, or a copy of it; PLIMSOLL_ARCHIVE_DIR names another one."""
SINCE = "24h"
UNTIL = "now"
"""The window: 6h (before the archive's end), now (its end), or 2026-11-25T10:00:00 (UTC)."""
LINEAGE = ""
"""An image's name without its version; empty: the one with the most samples."""

# %%
from pathlib import Path
from typing import Any

from drawing import BAND, EACH, INK, LINE, QUIET, amounts, clock, legend, panels, short
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from models.contract import Topics
from models.detection import Detection
from models.features import MEASURED
from models.normal import normal
from models.pipeline import Core
from models.reasons import amount
from streams.archive.layout import day_of
from streams.archive.telemetry import ArchivedTelemetry
from streams.archive.views import asked, given, opened
from streams.commands.output import show
from streams.commands.times import clock as date
from streams.commands.times import moment
from streams.explaining import known_of
from streams.lessons import trusted
from streams.report.rows import usual
from streams.stores.baselines import newest_first

ARCHIVE = Path(ARCHIVE)
topic = Topics(settings.topic_prefix).telemetry
source = ArchivedTelemetry(ARCHIVE, topic, trusted(settings.keys_dir))
begins_ns, ends_ns = source.span()
window = max(moment(SINCE, ends_ns), begins_ns), min(moment(UNTIL, ends_ns), ends_ns)
archive = opened(ARCHIVE, settings.archive.team_labels, since=day_of(window[0] // 10**6))
given(archive, since=window[0] // 1000, until=window[1] // 1000, scope=settings.scope)
WITHIN = """time >= make_timestamp(getvariable('since'))
    AND time < make_timestamp(getvariable('until')) AND scope = getvariable('scope')"""
print(f"{date(window[0])} to {date(window[1])} UTC")


def ask(sql: str) -> dict[str, Any]:
    """A query's columns, as arrays by name."""
    return asked(archive, sql).fetchnumpy()


# %% [markdown]
# ## What is there

# %%
images = ask(f"""
    SELECT lineage, role, scope, count(DISTINCT image) AS versions,
        count(DISTINCT subject) AS containers, count(*) AS samples,
        avg(cpu_cores) AS cpu, avg(memory_working_set_bytes) AS memory
    FROM samples WHERE {WITHIN} AND NOT starts_with(subject, 'host/')
    GROUP BY ALL ORDER BY samples DESC, lineage""")
rows = [dict(zip(images, row, strict=True)) for row in zip(*images.values(), strict=True)]
show(
    [row | {"cpu": amount(row["cpu"], "cores"), "memory": amount(row["memory"], "B")}
     for row in rows[:20]], as_json=False, empty="no samples in the window",
)  # fmt: skip  # one call
chosen = [row for row in rows if LINEAGE in ("", row["lineage"])]
if not chosen:
    raise SystemExit(f"no samples of {LINEAGE or 'any image'} in the window: see SINCE and LINEAGE")
lineage, role = chosen[0]["lineage"], chosen[0]["role"]
given(archive, lineage=lineage, role=role)
OURS = f"{WITHIN} AND lineage = getvariable('lineage') AND role = getvariable('role')"

# %% [markdown]
# ## What is usual
#
# The lineage's telemetry is judged again from the archive's beginning; this is what a worker
# knew of it at the window's end. *Blocks* tell how sure that is.

# %%
state = known_of(source, Core(), f"{settings.scope}/{lineage}/{role}", window[1])
image = newest_first(state)[0]
known = normal(state, image, Detection())
print(f"{image.name}: known {known.known:.0%}, line {known.line:.1f} deviations")
show([usual(one) for one in known.features], as_json=False)

# %% [markdown]
# ## What its containers do
#
# A line is a container; the band is what the baseline takes for usual at the window's end. A line
# that leaves it for a moment is everyday life; one that leaves it and stays is worth a look.

# %%
MOST_CONTAINERS, MOST_POINTS = 12, 200
bands = {one.feature: one for one in known.features}
# What does not move needs no plot, and the share of a limit looks like what it is a share of.
measured = [one.name for one in MEASURED if one.name in bands and one.name != "memory_limit_ratio"
            and bands[one.name].high > bands[one.name].low]  # fmt: skip  # one condition
span_s = max((window[1] - window[0]) / 1e9 / MOST_POINTS, 1)
series = ask(f"""
    SELECT name, subject, time_bucket(to_seconds({span_s}), time) AS began,
        {", ".join(f"avg({name}) AS {name}" for name in measured)}
    FROM samples WHERE {OURS} GROUP BY name, subject, began ORDER BY subject, began""")
containers = list(dict.fromkeys(series["subject"]))[:MOST_CONTAINERS]
figure, axes = panels(len(measured), 3, f"{short(image.name)}: {len(containers)} containers")
for ax, feature in zip(axes, measured, strict=True):
    band = bands[feature]
    ax.axhspan(band.low, band.high, color=BAND, label="usual", zorder=0)
    for number, subject in enumerate(containers):
        mine = series["subject"] == subject
        name = series["name"][mine][0] or subject[:12]
        ax.plot(series["began"][mine], series[feature][mine], color=EACH[number % len(EACH)],
                linewidth=1, label=name)  # fmt: skip  # one call
    amounts(ax, feature)
    clock(ax)
print(f"each point is the average over {span_s:.0f} s")
legend(figure, axes[0])

# %% [markdown]
# ## Whom they talk to
#
# Every peer that a container connected to, and how much went there when. One that appears late,
# for one container alone, is what the judge calls a first sighting.

# %%
MOST_PEERS = 14
peers = ask(f"""
    WITH told AS (
        SELECT coalesce(nullif(peer_lineage, ''), peer) || ':' || port AS who, *
        FROM connections WHERE {OURS} AND direction = 'egress'
    ), first AS (
        SELECT who, min(time) AS first, sum(sent_bytes + received_bytes) AS total
        FROM told GROUP BY who ORDER BY total DESC LIMIT {MOST_PEERS}
    )
    SELECT who, any_value(first) AS first, any_value(total) AS total,
        time_bucket(to_seconds({max(span_s, 30)}), time) AS began,
        sum(sent_bytes) AS sent, sum(received_bytes) AS received,
        count(DISTINCT subject) AS containers
    FROM told JOIN first USING (who) GROUP BY who, began ORDER BY first, who, began""")
order = list(dict.fromkeys(peers["who"]))
if order:
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 0.6 + 0.34 * max(len(order), 4)), sharey=True, width_ratios=(3, 1)
    )
    both = peers["sent"] + peers["received"]
    places = [order.index(who) for who in peers["who"]]
    left.scatter(peers["began"], places, s=6 + 120 * both / both.max(), color=LINE, alpha=0.35,
                 linewidths=0)  # fmt: skip  # one call
    firsts = {who: peers["first"][peers["who"] == who][0] for who in order}
    left.scatter(list(firsts.values()), range(len(order)), marker="|", s=80, color=INK)
    left.set_yticks(range(len(order)), [short(who) for who in order])
    left.invert_yaxis()
    left.set_title(f"{short(image.name)}: its peers, by bytes over time ( | first seen)")
    clock(left)
    sent, received = ([float(peers[kind][peers["who"] == who].sum()) for who in order]
                      for kind in ("sent", "received"))  # fmt: skip  # one line each
    right.barh(range(len(order)), sent, color=LINE)
    right.barh(range(len(order)), received, left=sent, color=QUIET)
    right.xaxis.set_major_formatter(lambda value, _: amount(value, "B"))
    right.xaxis.set_major_locator(MaxNLocator(4))
    right.set_title("in all, sent (green) and received")
