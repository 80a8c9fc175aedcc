"""A container's layers by its own mounts, where the engine doesn't tell them: Docker with
containerd's image store names none, other engines name them otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def unescaped(name: str) -> str:
    r"""A name in the kernel's list of mounts, which prints blanks and backslashes in octal.

    >>> unescaped(r"/a\040b")
    '/a b'
    """
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), name)


def layers_of(root: Path, pid: int) -> tuple[Path | None, tuple[Path, ...]]:
    """The writable layer and the read-only ones, topmost first; none where the process is
    gone or its root is no overlay. ``root`` is where the host's ``/`` is seen.
    """
    try:
        told = (root / f"proc/{pid}/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return None, ()
    for line in told.splitlines():
        fields, _, tail = line.partition(" - ")
        kind, *rest = tail.split(" ")
        if kind == "overlay" and fields.split(" ")[4] == "/":
            return _of_options(rest[-1])
    return None, ()


def _of_options(options: str) -> tuple[Path | None, tuple[Path, ...]]:
    """Relative names are seen from the folder of all layers, two above the writable one."""
    pairs = [option.partition("=") for option in unescaped(options).split(",")]
    upper = next((Path(value) for name, _, value in pairs if name == "upperdir"), None)
    if upper is None or not upper.is_absolute():
        return None, ()
    lowers = [one for name, _, value in pairs if name in ("lowerdir", "lowerdir+")
              for one in value.split(":") if one]  # fmt: skip  # two lines
    return upper, tuple(upper.parent.parent / one for one in lowers)
