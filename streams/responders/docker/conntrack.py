"""The kernel's table of connections: what it knows of a container's addresses, and removal.

Only entries that can concern the addresses are asked for, by filters in the kernel: a busy
host's table holds hundreds of thousands. What filters an old kernel ignores is filtered here.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.errors import ContainerRuntimeError

if TYPE_CHECKING:  # 9 MB, and few responders ever act: imported where it is used
    from pyroute2 import NFCTSocket

_TABLE: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_SEEN_REPLY: Final = 1 << 1
_DST_NAT: Final = 1 << 5
SMALL: Final = 500
"""A table of so few entries is read whole: each question costs as much as reading these."""
_ENOENT: Final = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A tracked connection, both directions as the kernel has them."""

    original: Any
    reply: Any
    answered: bool
    """Packets went in both directions."""

    def alive(self, addresses: Collection[str]) -> bool:
        """Whether it shows that these addresses are connected: they answered, or began it.
        Who knocks at an address that is cut off (a scraper, a proxy) is tracked all the same.
        """
        return self.answered or self.original.saddr in addresses

    def concerns(self, addresses: Collection[str]) -> bool:
        ends = (self.original.saddr, self.original.daddr, self.reply.saddr, self.reply.daddr)
        return any(end in addresses for end in ends)

    def told(self) -> dict[str, Any]:
        one, other = self.original, self.reply
        return {
            "protocol": one.proto,
            "original": f"{one.saddr}:{one.sport or 0} > {one.daddr}:{one.dport or 0}",
            "reply": f"{other.saddr}:{other.sport or 0} > {other.daddr}:{other.dport or 0}",
        }


def tracked() -> bool:
    """Whether this kernel tracks connections at all."""
    return _TABLE.exists()


def entries(addresses: Collection[str]) -> list[Entry]:
    """What is tracked of these addresses.

    Raises: ContainerRuntimeError when the table may not be read.
    """
    if not addresses or not tracked():
        return []
    from pyroute2 import NFCTSocket
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with NFCTSocket() as table:
            found = {repr(entry): entry for entry in _asked(table, addresses)}
    except (NetlinkError, OSError) as refusal:
        raise _refused(refusal) from refusal
    return list(found.values())


def delete(addresses: Collection[str]) -> int:
    """Remove every entry of these addresses; how many it were.

    Raises: ContainerRuntimeError when that is not allowed.
    """
    known = entries(addresses)
    if not known:
        return 0
    from pyroute2 import NFCTSocket
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with NFCTSocket() as table:
            for entry in known:
                _remove(table, entry)
    except (NetlinkError, OSError) as refusal:
        raise _refused(refusal) from refusal
    return len(known)


def _asked(table: NFCTSocket, addresses: Collection[str]) -> Iterator[Entry]:
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

    if int(_TABLE.read_text()) <= SMALL:
        yield from _matching(table.dump(), addresses)
        return
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for side in ("saddr", "daddr"):
            wanted = NFCTAttrTuple(family=family, **{side: address})
            yield from _matching(table.dump(tuple_orig=wanted), addresses)
    # Published ports: the container's address stands in the reply only, and kernels before
    # 6.4 filter by it wrongly.
    yield from _matching(table.dump(status=_DST_NAT, status_mask=_DST_NAT), addresses)


def _matching(messages: Any, addresses: Collection[str]) -> Iterator[Entry]:
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

    for message in messages:
        family = message["nfgen_family"]
        if family in (socket.AF_INET, socket.AF_INET6):
            original = message.get_attr("CTA_TUPLE_ORIG")
            reply = message.get_attr("CTA_TUPLE_REPLY")
            entry = Entry(
                NFCTAttrTuple.from_netlink(family, original),
                NFCTAttrTuple.from_netlink(family, reply),
                bool((message.get_attr("CTA_STATUS") or 0) & _SEEN_REPLY),
            )
            if entry.concerns(addresses):
                yield entry


def _remove(table: NFCTSocket, entry: Entry) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        table.entry("del", tuple_orig=entry.original)
    except NetlinkError as refusal:
        if refusal.code != _ENOENT:  # gone by itself meanwhile
            raise


def _refused(refusal: Exception) -> ContainerRuntimeError:
    return ContainerRuntimeError(
        f"connection table: {refusal}; the responder needs CAP_NET_ADMIN on the host's network"
    )
