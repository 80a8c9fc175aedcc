"""What numpy and zipfile raise on a file that is damaged or made to hurt."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from typing import Final

DAMAGED: Final = (
    ValueError, TypeError, LookupError, OSError, EOFError, OverflowError, MemoryError, SyntaxError,
    UserWarning,  # a header that only older Pythons wrote, where warnings are errors
    RuntimeError,  # encrypted, nested too deeply, or packed in a way that is not supported
    struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tokenize.TokenError,
)  # fmt: skip  # by kind
"""Nothing narrower holds: headers of arrays are Python text, packers raise errors of their own."""
