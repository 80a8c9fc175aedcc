"""A bar on standard error while a topic is read back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def reading(what: str, *, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """Takes the share that is done, 0 to 1; silent where nobody watches."""
    hidden = quiet or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=hidden, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)
