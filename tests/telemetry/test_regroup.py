"""Regrouping: hosts' frames in, images' batches out, nothing lost or reordered."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from models.records import decode, encode
from models.records.facts import Connection, Coverage, Observation, Program
from models.records.inventory import State
from models.records.telemetry import Batch, Sightings
from producers.gather.inventory import Inventory
from producers.gather.ledger import Lot
from producers.gather.places import NOWHERE, Place
from producers.gather.regroup import Made, Regrouper, halved
from tests.telemetry.builders import NS, START_NS, connection, entry, frame, regrouper

LOT = Lot()


def batches(made: list[Made]) -> list[Batch]:
    return [one.record for one in made if isinstance(one.record, Batch)]


def sightings(made: list[Made]) -> list[Sightings]:
    return [one.record for one in made if isinstance(one.record, Sightings)]


def rows_of(batch: Batch) -> list[tuple[str, int, float]]:
    samples = batch.samples
    return [
        (samples.subjects[subject], time_ns, value)
        for subject, time_ns, value in zip(
            samples.index.tolist(), samples.times_ns.tolist(),
            samples.column("cpu_cores").tolist(), strict=True,
        )
    ]  # fmt: skip  # three columns side by side


def connections(made: list[Made]) -> dict[str, str]:
    """What lineage was named for each peer."""
    facts = [o.fact for record in sightings(made) for o in record.observations]
    return {f.peer: f.peer_lineage for f in facts if isinstance(f, Connection)}


def test_siblings_of_different_hosts_meet_in_one_batch() -> None:
    """Load that all siblings share can be told from one that leaves the line alone."""
    regroup = regrouper(entry("a", "shop/web"), entry("b", "shop/web", "h2"), entry("c", "shop/db"))
    regroup.add(frame(["a", "c"], host="h1"), 0, LOT)
    regroup.add(frame(["b"], host="h2"), 0, LOT)

    found = {batch.lineage: batch for batch in batches(regroup.flush()[0])}

    assert found["shop/web"].samples.subjects == ("a", "b")
    assert [member.host for member in found["shop/web"].members] == ["h1", "h2"]
    assert found["shop/db"].samples.subjects == ("c",)


SUBJECTS = {f"c{n}": f"shop/{n % 3}" for n in range(9)}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(sorted(SUBJECTS)), unique=True, max_size=9), max_size=12),
    st.integers(1, 7),
    st.sets(st.integers(0, 11)),
)
def test_every_row_comes_out_once_and_in_order(
    frames: list[list[str]], most: int, flushed_after: set[int]
) -> None:
    """The judge drops what is older than what it has: a swapped row would be lost."""
    entries = [entry(name, lineage) for name, lineage in SUBJECTS.items()]
    regroup, out = regrouper(*entries, batch_samples=most), []
    for at, subjects in enumerate(frames):
        regroup.add(frame(subjects, at_s=at + 1), 0, LOT)
        if at in flushed_after:
            out += batches(regroup.flush()[0])
    out += batches(regroup.flush()[0])

    seen: dict[str, list[float]] = defaultdict(list)
    for batch in out:
        assert len(batch.samples) <= most
        assert decode(Batch, encode(batch)) == batch
        for subject, time_ns, value in rows_of(batch):
            assert batch.lineage == SUBJECTS[subject]
            assert time_ns == START_NS + value * NS
            seen[subject].append(value)
    expected = {
        name: [at + 1.0 for at, subjects in enumerate(frames) if name in subjects]
        for name in SUBJECTS
    }
    assert seen == {name: times for name, times in expected.items() if times}


def test_a_host_that_changes_its_features_keeps_its_order() -> None:
    """An upgraded collector measures more; its older rows must go out first."""
    regroup = regrouper(entry("a", "shop/web"))
    regroup.add(frame(["a"], at_s=1), 0, LOT)
    assert not regroup.clashes(frame(["a"], at_s=2))
    assert regroup.clashes(frame(["a"], at_s=2, features=("cpu_cores",)))


def test_telemetry_waits_for_the_inventory_of_its_container() -> None:
    """A first sample may overtake the frame that says whose it is."""
    regroup, lot = regrouper(), Lot()
    program = Observation("late", START_NS, Program("/bin/app"))
    regroup.add(frame(["late"], at_s=1, observations=[program]), 0, lot)
    assert not batches(regroup.flush()[0])
    assert lot.outstanding == 2, "its offset may not be committed yet"

    regroup.learn(entry("late", "shop/web"))
    made, waited = regroup.flush()

    assert [batch.lineage for batch in batches(made)] == ["shop/web"]
    assert [record.observations for record in sightings(made)] == [(program,)]
    assert waited == [lot]


def test_what_waited_for_too_long_goes_out_as_unknown() -> None:
    """Kept forever it would be lost; dropped it would be lost at once."""
    regroup = regrouper()
    regroup.add(frame(["nobody"], at_s=1), 0, Lot())
    assert regroup.give_up(9 * NS) == []
    assert regroup.give_up(START_NS) == ["nobody"]

    made, _ = regroup.flush()

    assert [batch.lineage for batch in batches(made)] == ["unknown"]
    facts = [o.fact for record in sightings(made) for o in record.observations]
    assert [type(fact) for fact in facts] == [Coverage]
    regroup.learn(entry("nobody", "shop/web"))
    regroup.add(frame(["nobody"], at_s=2), 0, Lot())
    assert [batch.lineage for batch in batches(regroup.flush()[0])] == ["shop/web"]


def test_a_host_is_a_member_of_its_pool() -> None:
    """Hosts are judged like containers, also before their inventory came."""
    regroup = regrouper()
    regroup.add(frame(["host/h1"]), 0, LOT)
    assert [batch.lineage for batch in batches(regroup.flush()[0])] == ["host/pool"]


def test_a_peer_is_named_by_its_lineage() -> None:
    """A sibling with a fresh address is no stranger; an ambiguous address stays one."""
    regroup = regrouper(
        entry("a", "shop/web", "h1"),
        entry("near", "shop/db", "h1", "172.18.0.5"),
        entry("other", "shop/queue", "h2", "172.18.0.5"),
        entry("far", "shop/cache", "h2", "172.18.0.9"),
        entry("x", "shop/x", "h2", "172.18.0.7"),
        entry("y", "shop/y", "h3", "172.18.0.7"),
    )
    peers = ("172.18.0.5", "172.18.0.9", "172.18.0.7", "198.51.100.1")
    regroup.add(frame(observations=[connection("a", peer) for peer in peers]), 0, LOT)
    assert connections(regroup.flush()[0]) == {
        "172.18.0.5": "shop/db",
        "172.18.0.9": "shop/cache",
        "172.18.0.7": "",
        "198.51.100.1": "",
    }


def test_a_peer_elsewhere_is_named_by_its_country_and_network() -> None:
    """Where data goes is what people ask first; a container of ours is nowhere else."""
    where = {"198.51.100.9": Place("NL", "AS64500 Example"), "10.0.0.1": Place("US")}
    inventory = Inventory()
    inventory.learn(entry("b", "shop/db", address="10.0.0.1"))
    inventory.learn(entry("a", "shop/web"))
    regroup = Regrouper(inventory, 1000, 10 * NS, lambda address: where.get(address, NOWHERE))
    regroup.add(frame(observations=[connection("a", peer) for peer in (*where, "h.test")]), 0, LOT)

    made = decode(Sightings, encode(sightings(regroup.flush()[0])[0]))

    facts = [seen.fact for seen in made.observations]
    assert [
        (one.peer, one.peer_lineage, one.peer_country, one.peer_network)
        for one in facts if isinstance(one, Connection)
    ] == [
        ("198.51.100.9", "", "NL", "AS64500 Example"), ("10.0.0.1", "shop/db", "", ""),
        ("h.test", "", "", ""),
    ]  # fmt: skip  # a table


def test_an_address_follows_its_container() -> None:
    """Addresses are given out again: the next owner must not inherit a name."""
    regroup = regrouper(entry("a", "shop/web"), entry("b", "shop/db", address="172.18.0.5"))
    regroup.learn(entry("b", "shop/db", state=State.GONE, seen_s=5))
    regroup.learn(entry("b", "shop/db", address="172.18.0.5", seen_s=1))  # came late
    regroup.add(frame(observations=[connection("a", "172.18.0.5")]), 0, LOT)
    assert connections(regroup.flush()[0]) == {"172.18.0.5": ""}
    regroup.learn(entry("c", "shop/cache", address="172.18.0.5", seen_s=6))
    regroup.add(frame(observations=[connection("a", "172.18.0.5")]), 0, LOT)
    assert connections(regroup.flush()[0]) == {"172.18.0.5": "shop/cache"}


def test_a_container_gone_for_an_hour_is_forgotten() -> None:
    """Fleets that start a container a second would fill the memory of gather otherwise."""
    regroup = regrouper(entry("a", "shop/web", state=State.GONE))
    assert regroup.inventory.outlived(START_NS + 3_599 * NS) == []
    assert regroup.inventory.outlived(START_NS + 3_600 * NS) == ["a"]
    assert ("default", "a") not in regroup.inventory.subjects


def test_what_was_deleted_from_the_topic_is_forgotten_in_every_scope() -> None:
    """The topic's keys are subjects alone."""
    regroup = regrouper(entry("a", "shop/web"), entry("b", "shop/web", address="10.0.0.1"))
    regroup.learn(replace(entry("a", "shop/web"), scope="staging"))
    regroup.inventory.forget_deleted({"a", "nobody"})
    assert list(regroup.inventory.subjects) == [("default", "b")]
    assert regroup.inventory.peer_lineage("default", "h1", "10.0.0.1") == "shop/web"


def test_machines_of_one_id_in_two_scopes_are_two() -> None:
    """A machine cloned from production must not teach production from staging."""
    regroup = regrouper(entry("host/h1", "host/pool"))
    production = frame(["host/h1"])
    staging = replace(production, scope="staging", pool="trial")
    for one in (production, staging, staging):
        regroup.add(one, 0, LOT)
    found = [(batch.group, len(batch.samples)) for batch in batches(regroup.flush()[0])]
    assert sorted(found) == [("default/host/pool/web", 1), ("staging/host/trial/", 2)]


def test_strangers_stay_bounded() -> None:
    """A collector that invents containers fills no memory."""
    regroup: Regrouper = regrouper()
    for number in range(10_050):
        regroup.add(frame([f"n{number}"]), 0, Lot())
    regroup.give_up(START_NS)
    regroup.flush()
    regroup.forget_strangers()
    assert len(regroup.inventory.subjects) <= 10_001  # and the host itself


def test_batches_too_large_for_kafka_are_halved_by_their_rows() -> None:
    """Names of any length are a record's right, and must not stop everybody's telemetry."""
    regroup = regrouper(*(entry(name, "shop/web") for name in "abc"))
    regroup.add(frame(["a", "b", "c"]), 0, LOT)
    regroup.add(frame(["b"], at_s=1), 0, LOT)
    ((made,), _) = regroup.flush()
    (whole,) = batches([made])

    first, second = halved(made)

    parts = batches([first, second])
    assert [row for part in parts for row in rows_of(part)] == rows_of(whole)
    assert parts[1].samples.subjects == tuple(member.subject for member in parts[1].members)
    single = halved(first)[0]
    assert halved(single) == []


def test_sightings_too_large_for_kafka_are_halved() -> None:
    """Every observation keeps its member; a single one that is too large is not dropped
    in silence: the caller gets nothing to send and refuses it.
    """
    regroup = regrouper(entry("a", "shop/web"), entry("b", "shop/web"))
    both = [connection("a", "198.51.100.1"), connection("b", "198.51.100.2")]
    regroup.add(frame(observations=both), 0, LOT)
    (made,), _ = regroup.flush()

    first, second = halved(made)

    assert [m.subject for m in sightings([first])[0].members] == ["a"]
    assert [m.subject for m in sightings([second])[0].members] == ["b"]
    assert halved(first) == []
