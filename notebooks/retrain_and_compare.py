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
# # Would another model decide better?
#
# A forest from a window of the archive, tried on the part that it was not trained on and set
# against what was really decided. The functions are those of `plimsoll train` and
# `plimsoll replay`; nothing is announced, and nothing is kept unless you say so at the end.

# %% tags=["parameters"]
from streams.settings import load

settings = load()
ARCHIVE = settings.archive_dir
"""The archive's folder, or a copy of it; PLIMSOLL_ARCHIVE_DIR names another one."""
SINCE = "24h"
UNTIL = "now"
"""The window: 6h (before the archive's end), now (its end), or 2026-11-25T10:00:00 (UTC)."""
SEED = 0
"""The same window and seed give the same file, byte for byte."""
KEEP_IN = ""
"""A folder to keep the model's file in, as `plimsoll train` does; empty: nothing is kept."""

# %%
from pathlib import Path

import numpy as np
from drawing import ALARM, LEVELS, LINE, QUIET, SECOND, clock, short, times
from matplotlib import pyplot as plt

from models.contract import Topics
from models.detectors.forest import Forest
from models.drift import LARGE, MODERATE
from models.features import FEATURES, INDEX
from models.modelfile import load as forest_in
from models.pipeline import Core, Models
from streams.archive.decided import decided
from streams.archive.telemetry import ArchivedTelemetry
from streams.commands.cards import card
from streams.commands.output import show
from streams.commands.times import moment
from streams.lessons import trusted
from streams.policies import policy_of
from streams.replaying import compared, replayed
from streams.stores.models import ModelStore
from streams.training import QUANTILES, candidate

ARCHIVE = Path(ARCHIVE)
topic = Topics(settings.topic_prefix).telemetry
source = ArchivedTelemetry(ARCHIVE, topic, trusted(settings.keys_dir))
begins_ns, ends_ns = source.span()
window = max(moment(SINCE, ends_ns), begins_ns), min(moment(UNTIL, ends_ns), ends_ns)
core = Core(detection=settings.worker.detection)

# %% [markdown]
# ## Train
#
# The first three tenths only teach the baselines, the last three are held out.

# %%
manifest, content = candidate(
    source, settings.scope, *window, now_ns=window[1], seed=SEED, core=core
)
forest = Forest(forest_in(content, manifest.sha256, manifest.uid))
print("\n".join(card(manifest)))

# %% [markdown]
# ## Is the held-out part like the training part?
#
# The population stability index of each feature's deviations. Below 0.1 the model sees what it
# knows; beyond 0.25 it was trained on another fleet: look at that feature before you promote.

# %%
tried = manifest.evaluation
assert tried is not None  # a candidate has been tried
drift = dict(reversed(tried.drift.items()))
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(3, 2))
left.barh(
    [FEATURES[INDEX[name]].says for name in drift], drift.values(),
    color=[ALARM if one >= LARGE else SECOND if one >= MODERATE else LINE
           for one in drift.values()],
)  # fmt: skip  # one call
for at, words in ((MODERATE, "look"), (LARGE, "another fleet")):
    left.axvline(at, color=QUIET, linewidth=1, linestyle=(0, (3, 2)))
    left.annotate(words, (at, 0), xycoords=("data", "axes fraction"), xytext=(3, 4),
                  textcoords="offset points", fontsize=8, color=QUIET)  # fmt: skip  # one call
left.set_xlim(0, max(1.15 * max(drift.values(), default=0), LARGE * 1.4))
left.set_title("Drift since training (PSI of deviations)")

quantiles = [q for q in QUANTILES if q < 1]
usual = [-np.log(1 - q) for q in quantiles]
found = [tried.surprise[f"{q:g}"] for q in quantiles]
names = [f"p{q * 100:g}" for q in quantiles]
right.plot(usual, names, "o", color=QUIET, label="as in training")
right.plot(found, names, "o", color=LINE, label="held out")
for name, was, is_now in zip(names, usual, found, strict=True):
    right.plot([was, is_now], [name, name], color=LINE, linewidth=1, zorder=0)
right.set_xlabel("surprise, nats")
right.set_title(f"Surprise of {tried.samples} held-out samples")
right.legend(loc="lower right", fontsize=8)

# %% [markdown]
# ## What would have been decided?
#
# The held-out part once more with this model, against the verdicts and orders of then. The policy
# is the one in the settings, as if it might enforce.

# %%
held_out = tried.from_ns, tried.until_ns
then = decided(ARCHIVE, settings.scope, held_out)
asked = Core(Models(((0, forest),)), core.detection)
would = replayed(source, asked, policy_of(settings), settings.scope, held_out, warm_up=core)
difference = compared(then, would)
show(
    [{"image": short(row.image), "level": row.level, "decided": row.decided, "would": row.would}
     for row in difference.rows], as_json=False, empty="no alarms, neither then nor now",
)  # fmt: skip  # one call
print(f"{difference.same} alarms the same, {len(difference.new)} new, {len(difference.gone)} gone")
print(f"isolations: {then.isolations} decided, {would.isolations} would have been ordered")

# %%
# An alarm's uid follows from its content, so one that only moved in score counts as new and gone.
lanes = {"decided": then, "with this model": would}
images = sorted({one.image for side in lanes.values() for one in side.summaries})
figure, axes = plt.subplots(
    len(images), 1, figsize=(11, 0.7 + 1.7 * len(images)), sharex=True, squeeze=False
)
for ax, image in zip(axes.flat, images, strict=True):
    for (words, side), (color, width, place) in zip(
        lanes.items(), ((QUIET, 4, 1.14), (LINE, 1.2, 1.02)), strict=True
    ):  # fmt: skip  # one line each
        mine = sorted((one.at_ns, one.load) for one in side.summaries if one.image == image)
        ax.plot(times([at for at, _ in mine]), [load for _, load in mine], color=color,
                label=words, linewidth=width, alpha=0.8)  # fmt: skip  # one call
        for alarm in side.alarms():
            if alarm.verdict.image == image:
                level = alarm.verdict.level
                ax.plot(times([alarm.verdict.at_ns]), [place], marker="v", clip_on=False,
                        transform=ax.get_xaxis_transform(), color=LEVELS[level.value],
                        markeredgecolor=color)  # fmt: skip  # one call
        ax.annotate(words, (1, place), xycoords="axes fraction", ha="right", fontsize=7,
                    color=color)  # fmt: skip  # one call
    ax.axhline(1, color=ALARM, linewidth=0.8, linestyle=(0, (3, 2)))
    ax.set_title(f"{short(image)}: load by the minute; ▼ alarms", pad=26)
    ax.set_ylim(bottom=0)
    clock(ax)
figure.supylabel("load, 1 at the line", fontsize=9)

# %%
if KEEP_IN:
    store = ModelStore(Path(KEEP_IN))
    print(store.path(store.save(content)))
