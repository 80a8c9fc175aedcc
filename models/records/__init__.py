"""Every record that crosses a topic or a file: bytes → record → bytes, nowhere else."""

from models.records.codec import decode, encode

__all__ = ["decode", "encode"]
