"""How the notebooks draw: one look, amounts with their units, times in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from models.features import FEATURES, INDEX
from models.reasons import amount

INK: Final = "#1f2933"
QUIET: Final = "#9aa5b1"
BAND: Final = "#d3e5dc"
LINE: Final = "#2f6f5e"
ALARM: Final = "#c0392b"
SECOND: Final = "#d98e04"
LEVELS: Final = {
    "quiet": "#dfe5ea", "watch": "#f2d479", "corrupted": "#e39a2d", "suspect": "#dd6b3a",
    "compromised": ALARM,
}  # fmt: skip  # a table
EACH: Final = ("#2f6f5e", "#3f7cac", "#8d6a9f", "#b5803c", "#5b8e7d", "#7a7f8c")

plt.rcParams.update({
    "figure.dpi": 110, "figure.constrained_layout.use": True, "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET,
    "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "legend.frameon": False, "date.epoch": "1970-01-01T00:00:00",
})  # fmt: skip  # a table


def times(values_ns: Sequence[int] | Any) -> Any:
    """Nanoseconds as matplotlib plots them."""
    return np.asarray(values_ns, np.int64).astype("datetime64[ns]")


def panels(
    count: int, across: int, title: str, each: tuple[float, float] = (4.2, 2.0), first: float = 1.0
) -> Any:
    """A figure of ``count`` small plots over one time, and its axes; the ``first`` row may be
    lower than the others.
    """
    down = -(-count // across)
    figure, axes = plt.subplots(
        down, across, figsize=(each[0] * across, each[1] * down + 0.4), sharex=True,
        squeeze=False, height_ratios=[first] + [1.0] * (down - 1),
    )  # fmt: skip  # one call
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    return figure, list(axes.flat[:count])


def clock(axes: Axes) -> None:
    """Hours and minutes below, the date once."""
    locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]  # matplotlib's
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]  # matplotlib's
    axes.xaxis.set_major_formatter(formatter)


def amounts(axes: Axes, feature: str) -> None:
    """The feature's own unit on the left, its words above."""
    one = FEATURES[INDEX[feature]]
    axes.set_title(one.says)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value, one.unit)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    low, high = axes.get_ylim()
    if low < high / 2:  # else zero is far away, and all that moves would be one line
        axes.set_ylim(bottom=0)


def mark(axes: Axes, at_ns: int, words: str = "", color: str = ALARM) -> None:
    """A line at a time, told at its top."""
    at = times([at_ns])[0]
    axes.axvline(at, color=color, linewidth=1, linestyle=(0, (3, 2)))
    if words:
        axes.annotate(
            words, (at, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", color=color, fontsize=8, va="top",
        )  # fmt: skip  # one call


def legend(owner: Figure | Axes, axes: Axes, loc: Any = "upper right") -> None:
    """What the lines of one plot are, each once; told by that plot, or above all of a figure."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    owner.legend(list(named.values()), list(named), loc=loc, ncols=6, fontsize=8)


def short(image: str) -> str:
    """An image's name as there is room for: the last part, and the digest's beginning.

    >>> short("registry.example/shop/cart@sha256:0123456789abcdef")
    'cart@0123456'
    """
    name, _, digest = image.partition("@")
    version = digest.removeprefix("sha256:")[:7]
    return name.rpartition("/")[2] + (f"@{version}" if version else "")
