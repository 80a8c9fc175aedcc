"""What a command begins that then runs until it is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """``run`` names a function, ``package.module:function``, that takes the settings and the
    options.

    A command returns one instead of running it: what parsed its flags and checked its settings
    is of no use from then on, and a part that sits on every host need not hold it.
    """

    name: str
    run: str
    settings: Any
    options: Mapping[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Run it in this process."""
        module, _, function = self.run.partition(":")
        getattr(import_module(module), function)(self.settings, **self.options)
