"""Lines of the kernel's table, and what they say of containers. The lines are real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from models.records.facts import Connection, Direction
from producers.sources.docker.conntrack import Entry, entries_of
from producers.sources.docker.flows import MOST_TOLD, NOBODY, Flows

TCP = """\
ipv4     2 tcp      6 119 TIME_WAIT src=10.7.0.2 dst=10.7.0.2 sport=43182 dport=8080 packets=5 \
bytes=271 src=10.7.0.1 dst=10.7.0.2 sport=80 dport=43182 packets=3 bytes=164 [ASSURED] mark=0 \
zone=0 use=2
"""
PING = """\
ipv4     2 icmp     1 29 src=10.7.0.1 dst=10.7.0.9 type=8 code=0 id=909 packets=1 bytes=84 \
src=10.7.0.9 dst=10.7.0.1 type=0 code=0 id=909 packets=1 bytes=84 mark=0 zone=0 use=2
"""
IGMP = """\
ipv4     2 unknown  2 589 src=172.24.0.1 dst=224.0.0.22 packets=2 bytes=80 [UNREPLIED] \
src=224.0.0.22 dst=172.24.0.1 packets=0 bytes=0 mark=0 zone=0 use=2
"""
IPV6 = """\
ipv6     10 tcp      6 119 TIME_WAIT src=fd00:0006:0000:0000:0000:0000:0000:0001 \
dst=fd00:0006:0000:0000:0000:0000:0000:0009 sport=40386 dport=99 packets=4 bytes=299 \
src=fd00:0006:0000:0000:0000:0000:0000:0009 dst=fd00:0006:0000:0000:0000:0000:0000:0001 sport=99 \
dport=40386 packets=4 bytes=296 [ASSURED] mark=0 zone=0 use=2
"""
WITHOUT_COUNTS = """\
ipv4     2 tcp      6 42 ESTABLISHED src=10.7.0.1 dst=10.7.0.9 sport=1 dport=2 src=10.7.0.9 \
dst=10.7.0.1 sport=2 dport=1 [ASSURED] mark=0 zone=0 use=2
"""
OFFLOADED = """\
ipv4     2 tcp      6 src=10.7.0.1 dst=10.7.0.9 sport=1 dport=2 packets=9 bytes=900 src=10.7.0.9 \
dst=10.7.0.1 sport=2 dport=1 packets=8 bytes=800 [OFFLOAD] mark=0 zone=0 use=3
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (TCP, Entry("tcp", "10.7.0.2", 43182, "10.7.0.2", 8080, "10.7.0.1", 80, True,
                    271, 5, 164, 3)),
        (PING, Entry("icmp", "10.7.0.1", 0, "10.7.0.9", 0, "10.7.0.9", 0, True, 84, 1, 84, 1)),
        (IGMP, Entry("2", "172.24.0.1", 0, "224.0.0.22", 0, "224.0.0.22", 0, False, 80, 2, 0, 0)),
        (IPV6, Entry("tcp", "fd00:6::1", 40386, "fd00:6::9", 99, "fd00:6::9", 99, True,
                     299, 4, 296, 4)),
        (WITHOUT_COUNTS, Entry("tcp", "10.7.0.1", 1, "10.7.0.9", 2, "10.7.0.9", 2, True,
                               0, 0, 0, 0)),
        (OFFLOADED, Entry("tcp", "10.7.0.1", 1, "10.7.0.9", 2, "10.7.0.9", 2, True,
                          900, 9, 800, 8)),
    ],
    ids=["translated", "ping", "igmp", "ipv6", "without counts", "offloaded"],
)  # fmt: skip  # a table
def test_a_line_of_the_table_is_one_connection(line: str, expected: Entry) -> None:
    """Addresses as the engine writes them: others are nobody's."""
    assert list(entries_of("garbage\n" + line + line)) == [expected, expected]


def test_what_the_host_says_to_itself_is_not_read_but_a_published_port_is() -> None:
    """On a busy host most lines are loopback's: they would cost more than all the rest."""
    inside = TCP.replace("10.7.0.2", "127.0.0.1").replace("10.7.0.1", "127.0.0.1")
    own = IPV6.replace("fd00:0006", "0000:0000").replace(":0009", ":0001")
    published = TCP.replace("10.7.0.2", "127.0.0.1")
    (one,) = entries_of(inside + own + published)
    assert (one.source, one.answerer, one.answerer_port) == ("127.0.0.1", "10.7.0.1", 80)


CALL = Entry("tcp", "10.0.0.2", 4000, "8.8.8.8", 443, "8.8.8.8", 443, True, 100, 2, 50, 1)
OWNERS = {
    "10.0.0.1": "host", "10.0.0.2": "client", "10.0.0.3": "server", "10.0.0.4": NOBODY,
}  # fmt: skip  # a table


def told(flows: Flows, *entries: Entry) -> dict[str, list[Connection]]:
    traffic = flows.look(entries, OWNERS)
    return {subject: one.told()[0] for subject, one in traffic.items()}


def started(*entries: Entry) -> Flows:
    """After its first look, which only remembers."""
    flows = Flows("host")
    assert told(flows, *entries) == {}
    return flows


def grown(one: Entry, by: int) -> Entry:
    return replace(one, sent_bytes=one.sent_bytes + by, sent_packets=one.sent_packets + 1)


def test_what_was_there_before_us_is_told_by_its_growth() -> None:
    """A restarted collector must not tell a day's bytes as one second's."""
    flows = started(CALL)
    assert told(flows, CALL) == {}
    (one,) = told(flows, grown(CALL, 70))["client"]
    assert (one.sent_bytes, one.received_bytes, one.sent_packets, one.opened) == (70, 0, 1, 0)


def test_a_new_connection_is_told_whole() -> None:
    """As short as it may have been."""
    (one,) = told(started(), CALL)["client"]
    assert (one.direction, one.peer, one.port) == (Direction.EGRESS, "8.8.8.8", 443)
    assert (one.sent_bytes, one.received_bytes, one.opened) == (100, 50, 1)


def test_counters_that_begin_anew_are_a_new_connection() -> None:
    """The same ports may be used again, and accounting be switched off and on."""
    flows = started(replace(CALL, sent_bytes=10**6, received_bytes=10**6))
    (one,) = told(flows, CALL)["client"]
    assert (one.sent_bytes, one.received_bytes, one.opened) == (100, 50, 1)


def test_an_answer_has_one_look_to_come() -> None:
    """Otherwise every connection that is just being opened would look like a scan."""
    asked = replace(CALL, answered=False, received_bytes=0, received_packets=0)
    flows = started()
    assert told(flows, asked) == {}
    assert told(flows, CALL)["client"][0].answered
    flows = started()
    told(flows, asked)
    assert not told(flows, asked)["client"][0].answered


def test_a_connection_between_two_containers_has_two_ends() -> None:
    """Asked for by another address, which the engine translates."""
    inside = replace(CALL, destination="192.168.1.1", answerer="10.0.0.3", answerer_port=80)
    ends = told(started(), inside)
    (out,), (back,) = ends["client"], ends["server"]
    assert (out.direction, out.peer, out.port) == (Direction.EGRESS, "10.0.0.3", 80)
    assert (back.direction, back.peer, back.port) == (Direction.INGRESS, "10.0.0.2", 80)
    assert (out.sent_bytes, out.received_bytes) == (back.received_bytes, back.sent_bytes)


def test_what_stays_on_this_host_or_is_nobodys_is_passed_over() -> None:
    """Only what crosses a container's line counts."""
    own = replace(CALL, answerer="10.0.0.2")
    foreign = replace(CALL, source="10.9.9.9")
    assert told(started(), own, foreign) == {}


def many(number: int) -> Iterable[Entry]:
    for at in range(number):
        yield replace(CALL, answerer=f"8.8.{at // 250}.{at % 250}", sent_bytes=at)


def test_a_scan_is_told_by_its_largest_and_by_its_number() -> None:
    """A thousand lines a second would drown their host's frame."""
    flows = started()
    traffic = flows.look(many(1_000), OWNERS)["client"]
    lines, left_out = traffic.told()
    assert (len(lines), left_out) == (MOST_TOLD, 1_000 - MOST_TOLD)
    assert min(one.sent_bytes for one in lines) == 1_000 - MOST_TOLD
    assert (traffic.opened, traffic.peers) == (1_000, 1_000)


def test_what_a_host_says_to_its_own_containers_is_told_of_them_alone() -> None:
    """Proxies and probes call each new container at a new address, our own probe one that was
    just cut off: nobody new was talked to.
    """
    flows = started()
    inside = Entry("tcp", "10.0.0.1", 4000, "10.0.0.3", 80, "10.0.0.3", 80, True, 9, 1, 9, 1)
    cut_off = replace(inside, destination="10.0.0.4", answerer="10.0.0.4")
    outside = replace(inside, destination="8.8.8.8", answerer="8.8.8.8")

    found = told(flows, inside, cut_off, outside)

    assert [(one.direction, one.peer) for one in found["server"]] == [
        (Direction.INGRESS, "10.0.0.1")
    ]
    assert [(one.direction, one.peer) for one in found["host"]] == [(Direction.EGRESS, "8.8.8.8")]
    assert found.keys() == {"server", "host"}


TRIED = replace(CALL, answered=False, received_bytes=0, received_packets=0)
OTHER = replace(TRIED, destination_port=81, answerer_port=81)


def test_what_was_refused_between_two_looks_is_told_once() -> None:
    """No table shows it: whoever tries a hundred ports of a host that refuses them is not seen."""
    flows = started()

    first = flows.look([], OWNERS, [TRIED, OTHER])["client"].told()[0]
    waits = flows.look([TRIED], OWNERS)
    then = flows.look([], OWNERS, [TRIED])
    after = flows.look([], OWNERS)

    assert [(one.port, one.answered, one.opened) for one in first] == [
        (443, False, 1), (81, False, 1),
    ]  # fmt: skip  # a table
    assert not waits
    assert then["client"].opened == 1
    assert not after


def test_what_was_told_before_it_ended_is_not_told_again() -> None:
    """A packet to nobody stays in the table for a while, and ends without an answer too."""
    flows = started()
    flows.look([TRIED], OWNERS)
    assert flows.look([TRIED], OWNERS)["client"].opened == 1

    assert not flows.look([TRIED], OWNERS, [TRIED])
    assert not flows.look([], OWNERS, [TRIED])


def test_what_was_refused_before_the_first_look_is_none_of_ours() -> None:
    """As with all that the first look finds."""
    assert not Flows("host/h").look([], OWNERS, [TRIED])
