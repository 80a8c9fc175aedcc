"""How rare something new is depends on how often new things come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.detectors import identity, rarity
from models.facts import Facts
from models.records.facts import (
    BootIdentity,
    Change,
    Connection,
    Direction,
    Fact,
    FileChange,
    Program,
)
from models.records.verdict import Evidence, Family, Level, Reason
from models.verdict import PROOF, STRONG, WEAK, Patience, Piece, level_of

HOUR_NS = 3_600 * 10**9


def lived(per_block: int, blocks: int = 30) -> Facts:
    """Four containers with one usual peer, and so many new ones in each block."""
    facts = Facts()
    for at in range(blocks):
        for subject in "abcd":
            facts.sight("peer usual:1", subject)
        for new in range(per_block):
            facts.sight(f"peer new-{at}-{new}:1", "a")
        facts.close(at * 10**9, 4, learning=at < 3, alone_ns=HOUR_NS, most=1000)
    return facts


def test_a_crawlers_next_host_is_dull_and_a_databases_first_is_not() -> None:
    """By Good and Turing, not by a list."""
    assert lived(0).rarity("peer stranger:1", "a", 3) > 0.95
    assert lived(5).rarity("peer stranger:1", "a", 3) < 0.7
    assert lived(0).rarity("peer usual:1", "a", 3) == 0.0


def test_what_two_siblings_show_is_dull() -> None:
    """A partner's new address reaches all of them."""
    facts = lived(0)
    facts.sight("peer partner:1", "a")
    assert facts.rarity("peer partner:1", "a", 3) > 0.95
    facts.sight("peer partner:1", "b")
    assert facts.rarity("peer partner:1", "a", 3) > 0.95
    facts.sight("peer partner:1", "c")
    assert facts.rarity("peer partner:1", "a", 3) == 0.0


def test_one_container_alone_makes_nothing_normal_for_a_long_while() -> None:
    """A drip to a stranger must not be normal after a minute."""
    facts = lived(0)
    for at in range(30, 53):
        facts.sight("peer stranger:1", "a")
        facts.close(at * HOUR_NS, 4, learning=False, alone_ns=HOUR_NS, most=1000)
        assert not facts.normal("peer stranger:1")
    for at in range(53, 56):
        facts.sight("peer stranger:1", "a")
        facts.close(at * HOUR_NS, 4, learning=False, alone_ns=HOUR_NS, most=1000)
    assert facts.normal("peer stranger:1")


def test_what_is_vetoed_is_not_remembered() -> None:
    """What an attacker showed is no habit of the image."""
    facts = lived(0)
    facts.sight("peer stranger:1", "a")
    facts.close(HOUR_NS, 4, learning=False, alone_ns=0, most=1000, vetoed=["peer stranger:1"])
    assert "peer stranger:1" not in facts.seen


DAY_NS = 24 * HOUR_NS


def nights(facts: Facts, key: str, *hours: int, **how: list[str]) -> bool:
    """Whether it surprises nobody any more once one container has shown it in these hours."""
    for hour in hours:
        facts.sight(key, "a")
        facts.close(hour * HOUR_NS, 4, learning=False, alone_ns=DAY_NS, most=1000, **how)
    return facts.normal(key)


def test_what_is_shown_on_two_days_is_a_habit_also_where_it_was_doubted() -> None:
    """A backup at night is called until then; a proof never is one, nor what condemned."""
    peer, backup = "peer backup:1", ["peer backup:1"]
    assert not nights(lived(0), peer, 1, 2, 12)
    assert nights(lived(0), peer, 1, 25)
    assert not nights(lived(0), peer, 1, 2, doubted=backup)
    assert nights(lived(0), peer, 1, 25, doubted=backup)
    assert not nights(lived(0), "drop /tmp/x", 1, 25, 49)
    facts = lived(0)
    for subject in "abc":
        facts.sight(peer, subject)
    assert not nights(facts, peer, 1, doubted=backup), "that all of them are doubted is no excuse"
    facts = lived(0)
    assert not nights(facts, peer, 1, doubted=backup)
    assert not nights(facts, peer, 1, vetoed=backup)
    assert not nights(facts, peer, 25, doubted=backup)
    assert facts.earlier_ns(peer, 26 * HOUR_NS) == 0
    assert facts.earlier_ns(peer, 49 * HOUR_NS) == DAY_NS


def test_memory_is_bounded_and_what_was_lost_still_counts_as_new() -> None:
    """Forgetting singles must not make a crawler look like a database."""
    facts = lived(50, blocks=60)
    assert len(facts.seen) <= 1000
    assert facts.rarity("peer stranger:1", "a", 3) < 0.5


def test_programs_told_once_while_learning_do_not_make_new_ones_dull() -> None:
    """Collectors tell of a program once: having seen each once says nothing."""
    facts = Facts()
    for at in range(10):
        if at == 0:
            facts.sight("prog nginx", "a")
            facts.sight("prog sh", "a")
        facts.close(at * 10**9, 2, learning=at < 4, alone_ns=HOUR_NS, most=1000)
    assert facts.rarity("prog miner", "a", 1) > 0.95


def keys(fact: Fact) -> list[str]:
    return [told.key for told in rarity.told(fact)]


def test_a_sibling_with_a_fresh_address_is_no_stranger() -> None:
    """Containers are known by lineage and port, whatever address they have today."""
    first, second = (
        Connection(Direction.EGRESS, address, 5432, "tcp", peer_lineage="shop/db")
        for address in ("172.18.0.3", "172.18.0.77")
    )
    assert keys(first) == keys(second) == ["mate @shop/db:5432", "port 5432/tcp"]


def test_where_a_peer_is_is_a_fact_of_its_own() -> None:
    """Clouds give a service another address each day, rarely another country."""
    out = Connection(
        Direction.EGRESS, "198.51.100.9", 443, "tcp", peer_country="NL",
        peer_network="AS64500 Example",
    )  # fmt: skip  # one call
    assert keys(out) == ["peer 198.51.100.9:443", "country NL", "network AS64500", "port 443/tcp"]
    assert rarity.told(out)[0].text == "talks to 198.51.100.9:443 (AS64500 Example, NL)"
    called = replace(out, direction=Direction.INGRESS, port=8080)
    assert keys(called) == ["in *:8080", "from NL"]


def test_addresses_that_stay_on_the_machine_or_reach_everybody_are_no_peers() -> None:
    """The resolver of a Docker network is on a loopback address."""
    for address in ("127.0.0.11", "::1", "224.0.0.251", "255.255.255.255", "fe80::1", "0.0.0.0"):
        assert keys(Connection(Direction.EGRESS, address, 53, "udp")) == []
    assert keys(Connection(Direction.EGRESS, "10.0.0.2", 53, "udp"))


def test_a_program_that_is_not_in_the_image_is_a_proof_and_one_that_is_is_not() -> None:
    """Where it came from decides."""
    assert rarity.told(Program("/x", in_image=False))[0].grade == PROOF
    assert rarity.told(Program("/x", in_image=True))[0].grade == WEAK
    assert rarity.told(Program("/x", in_image=None))[0].grade == WEAK
    assert rarity.told(FileChange("/x", Change.ADDED, executable=True))[0].grade == STRONG


def test_a_path_that_is_drawn_anew_for_each_start_is_known_again() -> None:
    """What unpacks itself runs from another folder each time; what an image brings does not."""
    first, second = "/tmp/_MEIxWfLqa/main", "/tmp/_MEI25814a/main"
    for made in (
        lambda path: Program(path, in_image=False),
        lambda path: Program(path, parent="/bin/sh"),
        lambda path: Program("/bin/sh", in_image=True, parent=path),
        lambda path: FileChange(path, Change.ADDED, executable=True),
    ):
        assert keys(made(first)) == keys(made(second))
        assert keys(made(first)) != keys(made("/tmp/agent/main"))
    assert keys(Program(first, in_image=True)) != keys(Program(second, in_image=True))
    assert "_MEIxWfLqa" in rarity.told(Program(first, in_image=False))[0].text


BOOT = BootIdentity("i", ("run",), environment={"HOST": "h1", "MODE": "m"})


def test_a_value_that_differs_between_siblings_says_nothing() -> None:
    """Host names are in every environment."""
    starts: identity.Starts = {}
    identity.learn(starts, BOOT)
    identity.learn(starts, BootIdentity("i", ("run",), environment={"HOST": "h2", "MODE": "m"}))
    again = BootIdentity("i", ("run",), environment={"HOST": "h3", "MODE": "m"})
    assert identity.changed(starts, again) == []
    preload = BootIdentity("i", ("run",), environment={"HOST": "h3", "LD_PRELOAD": "x"})
    assert identity.changed(starts, preload) == ["environment LD_PRELOAD"]


@pytest.mark.parametrize(
    ("name", "grade"),
    [
        ("LD_PRELOAD", STRONG), ("PATH", STRONG), ("JAVA_TOOL_OPTIONS", STRONG),
        ("RUBYOPT", STRONG), ("https_proxy", STRONG), ("LD_SDK_KEY", WEAK), ("APP_PATH", WEAK),
    ],
)  # fmt: skip  # a table
def test_only_what_makes_a_program_load_other_code_is_loud_in_an_environment(
    name: str, grade: int
) -> None:
    """Settings change with every other release, new names among them."""
    starts: identity.Starts = {}
    identity.learn(starts, replace(BOOT, environment={name: "as ever"}))

    aspects = identity.changed(starts, replace(BOOT, environment={name: "another"}))
    assert aspects == [f"environment {name}"]
    assert identity.grade(aspects) == grade
    assert identity.grade([*aspects, "user"]) == PROOF


@pytest.mark.parametrize(
    ("mounts", "aspects", "grade"),
    [
        (("bind /srv/3 -> /data rw",), ["mount sources"], STRONG),
        (("bind /srv/1 -> /data ro",), ["mount points"], PROOF),
        (("bind /srv/1 -> /data rw", "bind /srv/2 -> /more ro"), ["mount points"], PROOF),
        (("bind / -> /data rw",), ["mount points"], PROOF),
        (("bind /etc/cron.d -> /data rw",), ["mount points"], PROOF),
        (("bind /var -> /data rw",), ["mount points"], PROOF),
        (("bind /variety -> /data rw",), ["mount sources"], STRONG),
        (("bind /run/docker.sock -> /data rw",), ["mount points"], PROOF),
        (("/:/host:rw",), ["mount points"], PROOF),
    ],
)
def test_where_a_mount_comes_from_may_change_unless_it_is_the_host(
    mounts: tuple[str, ...], aspects: list[str], grade: int
) -> None:
    """Releases and replicas have folders of their own; an attacker wants the host's."""
    starts: identity.Starts = {}
    identity.learn(starts, replace(BOOT, mounts=("bind /srv/1 -> /data rw",)))

    assert identity.changed(starts, replace(BOOT, mounts=mounts)) == aspects
    assert identity.grade(aspects) == grade


def test_a_source_that_differs_between_replicas_says_nothing() -> None:
    """The fifth of five shards is no stranger than the second."""
    starts: identity.Starts = {}
    for shard in (1, 2):
        identity.learn(starts, replace(BOOT, mounts=(f"volume shard-{shard} -> /data rw",)))

    fifth = replace(BOOT, mounts=("volume shard-5 -> /data rw",))
    assert identity.changed(starts, fifth) == []
    assert identity.changed(starts, replace(BOOT, mounts=("bind /root -> /data rw",))) == [
        "mount points"
    ]


def test_an_aspect_that_the_release_before_did_not_know_is_no_change() -> None:
    """An upgrade must not call all that start after it compromised."""
    starts = {aspect: seen for aspect, seen in identity.digests(BOOT).items() if aspect != "user"}
    known: identity.Starts = {aspect: (digest,) for aspect, digest in starts.items()}

    assert identity.changed(known, replace(BOOT, user="root")) == []
    identity.learn(known, BOOT)
    assert identity.changed(known, replace(BOOT, user="root")) == ["user"]


def test_values_of_the_environment_are_never_told() -> None:
    """Secrets live there."""
    text = identity.told(["environment KEY"], BootIdentity("i", environment={"KEY": "s3cret"}))
    assert "KEY" in text
    assert "s3cret" not in text


PATIENCE = Patience(memory_s=25, resource_s=120, other_s=10)


def piece(family: Family, evidence: Evidence, grade: int = STRONG, kind: str = "",
          lasted_s: float = 999, *, feature: str = "cpu_cores") -> Piece:  # fmt: skip
    return Piece(family, evidence, grade, Reason(family, evidence, "t", feature), kind, lasted_s)


FACT, SIZE_OF = Evidence.FACT, Evidence.MAGNITUDE
PEER = piece(Family.EGRESS, FACT, WEAK, "peer")
SENT = piece(Family.EGRESS, SIZE_OF)
CPU = piece(Family.RESOURCE, SIZE_OF)


def test_the_rules_that_make_a_level() -> None:
    """All of them, on one page: whoever changes one sees what else it moves."""
    new_program = piece(Family.PROCESS, FACT, WEAK, "prog")
    executable = piece(Family.INTEGRITY, FACT, STRONG, "xfile")
    scan, silent = (piece(Family.EGRESS, FACT, STRONG, kind) for kind in ("scan", "unanswered"))
    table = [
        ([], Level.QUIET),
        ([PEER], Level.WATCH),
        ([CPU], Level.CORRUPTED),
        ([piece(Family.RESOURCE, SIZE_OF, lasted_s=60)], Level.WATCH),
        ([piece(Family.RESOURCE, SIZE_OF, lasted_s=60, feature="memory_limit_ratio")],
         Level.CORRUPTED),
        ([piece(Family.RESOURCE, SIZE_OF, WEAK)], Level.WATCH),
        ([SENT], Level.SUSPECT),
        ([piece(Family.EGRESS, SIZE_OF, lasted_s=5)], Level.WATCH),
        ([SENT, CPU], Level.SUSPECT),
        ([SENT, PEER], Level.COMPROMISED),
        ([CPU, PEER], Level.COMPROMISED),
        ([CPU, piece(Family.EGRESS, FACT, WEAK, "peer", 5)], Level.CORRUPTED),
        ([CPU, new_program], Level.CORRUPTED),
        ([PEER, new_program], Level.SUSPECT),
        ([executable], Level.SUSPECT),
        ([executable, new_program], Level.COMPROMISED),
        ([scan], Level.SUSPECT),
        ([scan, PEER], Level.SUSPECT),
        ([scan, silent], Level.COMPROMISED),
        ([scan, SENT], Level.COMPROMISED),
        ([piece(Family.RESOURCE, FACT, STRONG, "oom")], Level.CORRUPTED),
        ([piece(Family.IDENTITY, Evidence.PROOF, PROOF)], Level.COMPROMISED),
    ]  # fmt: skip
    for pieces, level in table:
        assert level_of(pieces, PATIENCE) is level, [(p.family, p.kind) for p in pieces]
