"""The demo on a terminal: images with their load line, incidents as they are answered.

Where there is no terminal the same events come as plain lines, one each.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from models.records.order import Outcome, Status
from models.records.verdict import Finding, Level, Summary
from streams.demo.notes import Notes
from streams.demo.script import Told

COLOUR: Final = {
    Level.QUIET: "green",
    Level.WATCH: "yellow",
    Level.CORRUPTED: "dark_orange",
    Level.SUSPECT: "magenta",
    Level.COMPROMISED: "bold red",
}
BAR_CELLS: Final = 24
LINE_CELL: Final = 18
"""Where the load line is drawn on the bar; past it there is room to go."""
LATEST: Final = 12


@dataclass(slots=True)
class View:
    """Draws what the notes hold; ``console`` must not be standard output under ``--json``."""

    console: Console
    notes: Notes
    time_is: str = "simulated"
    live: Live | None = None
    doing: str = ""
    _said: set[str] = field(default_factory=set)
    _lines: list[Text] = field(default_factory=list)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=8, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def stage(self, doing: str) -> None:
        """Name what goes on now; on a terminal in the title, else as a line."""
        self.doing = doing
        if self.live is None:
            self.console.print(f"-- {doing}", highlight=False, markup=False)

    def draw(self, now_ns: int) -> None:
        """Say what is new, and redraw."""
        with self.notes.lock:
            fresh = [*self._new_findings(), *self._new_outcomes()]
            for line in fresh:
                self._say(line)
            if self.live is not None:
                self.live.update(self._picture(now_ns), refresh=True)

    def picture(self, now_ns: int) -> RenderableType:
        """The whole view as it is now, for a closing look."""
        with self.notes.lock:
            return self._picture(now_ns)

    # ---- lines ------------------------------------------------------------------------------

    def _say(self, line: Text) -> None:
        self._lines = [*self._lines, line][-LATEST:]
        if self.live is None:
            self.console.print(line, soft_wrap=True, highlight=False)

    def _new_findings(self) -> list[Text]:
        told = (one for one in self.notes.findings if one.verdict.level.rank > Level.WATCH.rank)
        return [self._finding(one) for one in told if self._fresh(one.verdict.uid)]

    def _new_outcomes(self) -> list[Text]:
        """Once for an act: the slow evidence comes with an outcome of its own."""
        return [
            self._outcome(one)
            for one in self.notes.outcomes
            if self._fresh(f"{one.order}/{one.action}/{one.status}")
        ]

    def _fresh(self, uid: str) -> bool:
        if uid in self._said:
            return False
        self._said.add(uid)
        return True

    def _finding(self, finding: Finding) -> Text:
        verdict = finding.verdict
        why = "; ".join(reason.text for reason in verdict.reasons[:2])
        return Text.assemble(
            (_clock(verdict.at_ns), "dim"), " ", (verdict.level.value, COLOUR[verdict.level]), " ",
            (verdict.name or verdict.subject[:12], "bold"), f": {why}",
        )  # fmt: skip  # reads as the line does

    def _name(self, subject: str) -> str:
        named = (f.verdict.name for f in self.notes.findings if f.verdict.subject == subject)
        return next(filter(None, named), subject[:12])

    def _outcome(self, outcome: Outcome) -> Text:
        style = "cyan" if outcome.status is Status.DONE else "bold red"
        proof = {True: ", verified", False: ", NOT verified", None: ""}
        return Text.assemble(
            (_clock(outcome.at_ns), "dim"), " ",
            (f"{outcome.action.value} {outcome.status.value}", style), " ",
            (self._name(outcome.subject), "bold"),
            proof[outcome.verified],
            f": {outcome.detail}" if outcome.detail else "",
        )  # fmt: skip  # reads as the line does

    # ---- picture ----------------------------------------------------------------------------

    def _picture(self, now_ns: int) -> RenderableType:
        title = f"Plimsoll · {_clock(now_ns)} UTC ({self.time_is}) · {self.doing}"
        events = Group(*self._lines) if self._lines else Text("nothing to report", style="dim")
        return Group(
            Panel(self._images(), title=title, title_align="left", border_style="blue"),
            Panel(events, title="incidents", title_align="left", border_style="blue"),
        )

    def _images(self) -> Table:
        table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
        table.add_column("image", ratio=3, no_wrap=True)
        for name in ("containers", "learned", "CPU cores", "sent/s"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("load line", no_wrap=True)
        for summary in sorted(self.notes.summaries.values(), key=lambda one: one.group):
            table.add_row(*self._row(summary))
        return table

    def _row(self, summary: Summary) -> tuple[RenderableType, ...]:
        totals = summary.totals
        return (
            Text(summary.lineage), str(summary.containers), f"{summary.learned:.0%}",
            f"{totals.get('cpu_cores', 0.0):.2f}",
            size(totals.get("network_transmit_bytes_per_s", 0.0)),
            load_line(summary.load),
        )  # fmt: skip  # one row


def load_line(load: float) -> Text:
    """A bar with the line on it: what fills it past the line is more than is safe."""
    filled = min(round(load * LINE_CELL), BAR_CELLS)
    colour = "green" if load < 0.7 else "yellow" if load < 1.0 else "bold red"
    bar = Text()
    for cell in range(BAR_CELLS):
        mark = "┃" if cell == LINE_CELL else "█" if cell < filled else "·"
        bar.append(mark, "bold" if cell == LINE_CELL else colour if cell < filled else "dim")
    return bar


def size(count: float) -> str:
    """Bytes for a person.

    >>> size(48_300_000)
    '48 MB'
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def closing(stories: Sequence[Told]) -> Table:
    """The table that ends the demo."""
    table = Table(title="What was told, what was seen, what was done", title_justify="left")
    for name in ("story", "expected", "level", "action", "seen after", "verified after", ""):
        justify: Literal["right", "left"] = "right" if "after" in name else "left"
        table.add_column(name, justify=justify, no_wrap=name == "story")
    for one in stories:
        name = f"  twin: {one.story}" if one.twin else one.story
        table.add_row(
            name, one.expected, Text(one.level, COLOUR[Level(one.level)]), one.action,
            _seconds(one.seen_after_s), _seconds(one.verified_after_s),
            Text("right", "green") if one.right else Text("WRONG", "bold red"),
        )  # fmt: skip  # one row
    return table


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _clock(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%H:%M:%S")


def console_for(as_json: bool) -> Console:
    """Standard output belongs to the document under ``--json``."""
    file = sys.stderr if as_json else sys.stdout
    return Console(file=file, width=None if file.isatty() else 120)


__all__ = ["View", "closing", "console_for", "load_line", "size"]
