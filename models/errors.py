"""Every exception that Plimsoll raises on purpose, as one tree.

::

    PlimsollError                  anything below; a message says what, where, what to do
    ├── MalformedRecord            bytes, or a value, that is not the record it claims to be
    ├── ShapeMismatch              arrays or feature lists that do not fit together
    ├── UntrustedFile              a model, baseline or policy file that fails its checks
    ├── UntrustedMessage           a signature, key, scope or deadline that does not hold
    ├── BrokenChain                evidence that was changed, lost or reordered
    ├── ArchiveUnusable            an archive that can't be written or read, or is not ours
    ├── ConfigurationError         settings that cannot work
    ├── StoreFailed                a store on disk that cannot be written or read now
    ├── BrokerUnreachable          Kafka did not answer, or refused
    │   └── NotPermitted           Kafka refused: its access lists do not grant us this
    └── ContainerRuntimeError      a container runtime that did not do what was asked
        ├── ContainerGone          the container no longer exists
        └── RuntimeUnreachable     the runtime did not answer in time
"""

from __future__ import annotations

from typing import Literal, Self

Fault = Literal[
    "undecodable",  # not JSON, not the right outer shape
    "unknown-schema",  # a kind or format version this release does not know
    "missing",  # a required field is absent
    "mistyped",  # a value of the wrong type
    "out-of-range",  # a value outside of what the field allows
    "oversized",  # more bytes, rows or characters than allowed
    "empty",  # a record without a single measurement or item
    "misdated",  # an event time that cannot be true
    "misplaced",  # the wrong key or partition for its content
    "untrusted",  # a signature, key or role that does not hold
    "unjudged",  # judging it failed, which is our fault and not the record's
]


class PlimsollError(Exception):
    """Anything that Plimsoll raises on purpose."""


class MalformedRecord(PlimsollError):
    """Bytes, or a value, that is not the record it claims to be.

    ``place`` is a path into the payload (``samples.columns[3]``), empty for the whole;
    ``fault`` is a short word from a fixed list, fit for a counter's label.
    """

    def __init__(self, fault: Fault, problem: str, place: str = "") -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.fault: Fault = fault
        self.problem = problem
        self.place = place

    def under(self, prefix: str) -> Self:
        """The same error, seen from one level further out."""
        joint = "" if not self.place or self.place.startswith("[") else "."
        return type(self)(self.fault, self.problem, f"{prefix}{joint}{self.place}")


class ShapeMismatch(PlimsollError):
    """Arrays or feature lists that do not fit together."""


class UntrustedFile(PlimsollError):
    """A model, baseline or policy file that fails its checks; nothing of it was used."""


class UntrustedMessage(PlimsollError):
    """A signed message whose signature, key, role, scope or deadline does not hold."""


class BrokenChain(PlimsollError):
    """Evidence that was changed, lost or reordered."""


class ArchiveUnusable(PlimsollError):
    """An archive that can't be written or read, or is not ours; the message names the place."""


class ConfigurationError(PlimsollError):
    """Settings that cannot work; the message names each one and what is allowed."""


class StoreFailed(PlimsollError):
    """A store on disk that cannot be written or read now; what it holds is as it was."""


class BrokerUnreachable(PlimsollError):
    """Kafka did not answer, or refused; the message names the address and the cause."""


class NotPermitted(BrokerUnreachable):
    """Kafka's access lists do not grant us this; the message says who may not do what."""


class ContainerRuntimeError(PlimsollError):
    """A container runtime that did not do what was asked of it."""


class ContainerGone(ContainerRuntimeError):
    """The container no longer exists."""


class RuntimeUnreachable(ContainerRuntimeError):
    """The container runtime did not answer in time; asking again may help."""
