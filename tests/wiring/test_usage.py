"""The usage report: its figures against the same reckoned another way, and its page."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import ArchiveUnusable
from models.records.telemetry import Batch, Member
from producers.gather.inventory import Inventory
from producers.gather.ledger import Lot as GatherLot
from producers.gather.regroup import Regrouper
from producers.sources.simulated import Fleet
from streams.report import usage_page
from streams.report.usage import Row, Usage, usage_of
from tests.wiring.archived import NS, START_S, Record, archive_of, batch, entry, member, silent
from tests.wiring.test_cli import plimsoll

LABELS = ("team", "owner")
WEEK = timedelta(days=7)
START = datetime(1970, 1, 1) + timedelta(seconds=START_S)  # noqa: DTZ001  # UTC, as the archive has it
GB = 10**9
EVERY_S = 10.0


def usage(root: Path, lasting: timedelta = WEEK, late_s: float = 0.0) -> Usage:
    made = usage_of(root, LABELS, lasting, START).ends + timedelta(seconds=late_s)
    return usage_of(root, LABELS, lasting, made)


def by_key(rows: list[Row]) -> dict[Any, Row]:
    return {row["key"]: row for row in rows}


class Shop:
    """Two images on two hosts: cart grows by half at half time, db is steady and idle."""

    cart = tuple(
        member(n, f"h{n % 2}", memory_limit_bytes=GB, cpu_limit_cores=2.0) for n in range(3)
    )
    db = (member(7, "h0", memory_limit_bytes=4 * GB), member(8, "h1"))
    host = Member("host/h0", "h0", "linux", "node-a", 0, 32 * GB, 8.0)

    def __init__(self, hours: float) -> None:
        self.seconds = int(hours * 3600)
        self.rng = np.random.default_rng(7)
        self.cpu: dict[str, list[float]] = defaultdict(list)
        self.memory: dict[str, list[float]] = defaultdict(list)
        self.sent: dict[str, list[float]] = defaultdict(list)

    def records(self) -> Iterator[Record]:
        for one in self.cart:
            yield entry(one, "shop/cart", team="storefront", owner="ann")
        yield entry(self.db[0], "shop/db", owner="bob")
        for at_s in range(int(EVERY_S), self.seconds + 1, int(EVERY_S)):
            later = 1.5 if at_s > self.seconds / 2 else 1.0
            yield self._batch("shop/cart", self.cart, at_s, 0.4 * later, 3e8, 1e4 * later)
            yield self._batch("shop/db", self.db, at_s, 0.1, 5e8, 2e3)
            yield batch("host/pool", [self.host], at_s, cpu_cores=[3.0],
                        memory_working_set_bytes=[16.0 * GB])  # fmt: skip  # one sample

    def _batch(
        self, lineage: str, members: tuple[Member, ...], at_s: float, *usual: float
    ) -> Batch:  # fmt: skip  # two lines say as much
        cpu, memory, sent = (mean * self.rng.uniform(0.5, 1.5, len(members)) for mean in usual)
        for at, one in enumerate(members):
            self.cpu[one.subject].append(float(cpu[at]))
            self.memory[one.subject].append(float(memory[at]))
            self.sent[one.subject].append(float(sent[at]))
        return batch(
            lineage, members, at_s, every_s=EVERY_S, cpu_cores=list(cpu),
            memory_working_set_bytes=list(memory), network_transmit_bytes_per_s=list(sent),
        )  # fmt: skip  # by subject

    def core_hours(self, *members: Member) -> float:
        return sum(sum(self.cpu[one.subject]) for one in members) * EVERY_S / 3600

    def rate(self, values: dict[str, list[float]], half: int, *members: Member) -> float:
        """The average of one half, of all members together."""
        middle = len(values[members[0].subject]) // 2
        cut = slice(middle) if half == 0 else slice(middle, None)
        return float(sum(np.mean(values[one.subject][cut]) for one in members))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Usage, Path]:
    made = Shop(hours=2)
    root = archive_of(tmp_path_factory.mktemp("shop"), made.records())
    return made, usage(root), root


def test_consumption_is_what_the_samples_add_up_to(shop: tuple[Shop, Usage, Path]) -> None:
    """By image, host and team: the same hours, however they are grouped."""
    made, found, _ = shop
    images, hosts, teams = map(by_key, (found.images, found.hosts, found.teams))

    assert images["shop/cart"]["core_hours"] == pytest.approx(made.core_hours(*made.cart))
    assert images["shop/db"]["core_hours"] == pytest.approx(made.core_hours(*made.db))
    assert images["shop/cart"]["cores"] == pytest.approx(made.core_hours(*made.cart) / 2)
    sent = sum(sum(made.sent[one.subject]) for one in made.db) * EVERY_S
    assert images["shop/db"]["sent_bytes"] == pytest.approx(sent)
    memory = sum(float(np.mean(made.memory[one.subject])) for one in made.cart)
    assert images["shop/cart"]["memory_bytes"] == pytest.approx(memory)
    on_h0 = (made.cart[0], made.cart[2], made.db[0])
    assert hosts["h0"]["core_hours"] == pytest.approx(made.core_hours(*on_h0))
    assert hosts["h0"]["has_cores"] == 8
    assert hosts["h0"]["host_cores"] == pytest.approx(3)
    assert hosts["h1"]["has_cores"] is None
    assert teams["storefront"]["core_hours"] == pytest.approx(made.core_hours(*made.cart))
    assert (teams["bob"]["label"], teams["storefront"]["label"]) == ("owner", "team")
    assert teams[None]["core_hours"] == pytest.approx(made.core_hours(made.db[1]))
    assert found.totals["core_hours"] == pytest.approx(made.core_hours(*made.cart, *made.db))
    assert (found.totals["containers"], found.totals["hosts"]) == (5, 2)


def test_growth_compares_the_last_hour_with_the_one_before(shop: tuple[Shop, Usage, Path]) -> None:
    """Until there is more to compare; the biggest mover first."""
    made, found, _ = shop
    growth = by_key(found.growth.rows)["shop/cart"]

    assert found.growth.step == timedelta(hours=1)
    assert growth["cores_before"] == pytest.approx(made.rate(made.cpu, 0, *made.cart), rel=0.01)
    assert growth["cores_after"] == pytest.approx(made.rate(made.cpu, 1, *made.cart), rel=0.01)
    assert growth["sent_after"] == pytest.approx(made.rate(made.sent, 1, *made.cart), rel=0.01)
    called, _, moved = usage_page.movers(found)[0]
    assert (called, moved[0]["key"]) == ("CPU", "shop/cart")
    assert len(moved) == 1 + (abs(by_key(found.growth.rows)["shop/db"]["cores_more"]) >= 0.01)


def test_waste_is_what_limits_reserve_beyond_each_container_s_peak(
    shop: tuple[Shop, Usage, Path],
) -> None:
    """Containers without a limit waste nothing that we could know."""
    made, found, _ = shop
    waste = by_key(found.waste)

    peaks = [max(made.memory[one.subject]) for one in made.cart]
    assert waste["shop/cart"]["memory_reserved"] == 3 * GB
    assert waste["shop/cart"]["memory_peak"] == pytest.approx(sum(peaks))
    assert waste["shop/cart"]["memory_idle"] == pytest.approx(3 * GB - sum(peaks))
    # The busiest minute: each begins with a sample at :00 (14:13:20 is the first at :30).
    busiest = 0.0
    for one in made.cart:
        minutes: dict[int, list[float]] = defaultdict(list)
        for number, value in enumerate(made.cpu[one.subject], start=1):
            minutes[(START_S + number * int(EVERY_S)) // 60].append(value)
        busiest += max(float(np.mean(values)) for values in minutes.values())
    assert found.span_s == 60
    assert waste["shop/cart"]["cores_peak"] == pytest.approx(busiest)
    assert waste["shop/cart"]["cores_reserved"] == 6
    assert waste["shop/db"]["memory_reserved"] == 4 * GB
    assert waste["shop/db"]["without_memory_limit"] == 1
    assert waste["shop/db"]["cores_reserved"] is None


def test_a_minute_of_a_simulated_fleet_is_told_and_what_is_unknown_too(tmp_path: Path) -> None:
    """From day one: frames as collectors write them, batches as gather makes them."""
    fleet, regroup, lot = Fleet(3, START_S * NS), Regrouper(Inventory(), 1000, 10 * NS), GatherLot()
    records: list[Record] = []
    cpu: dict[str, float] = defaultdict(float)
    lineages: dict[str, str] = {}
    for _ in range(60):
        for frame in fleet.step(1.0):
            for one in frame.inventory:
                regroup.learn(one)
                records.append(one)
                lineages[one.subject] = one.lineage
            regroup.add(frame, frame.at_ns, lot)
            for at, value in zip(
                frame.samples.index, frame.samples.column("cpu_cores"), strict=True
            ):
                cpu[lineages[frame.samples.subjects[at]]] += float(value)
        records += [made.record for made in regroup.flush()[0]]

    found = usage(archive_of(tmp_path, records))

    images = by_key(found.images)
    assert images.keys() == {name for name in cpu if not name.startswith("host/")}
    for lineage, row in images.items():
        assert row["core_hours"] == pytest.approx(cpu[lineage] / 3600), lineage
    assert sum(row["cores"] for row in found.images) == pytest.approx(
        sum(value for name, value in cpu.items() if not name.startswith("host/")) / 60
    )
    assert found.growth.step is None
    said = " ".join(found.unknown)
    assert f"known from {found.begins + timedelta(hours=2):%Y-%m-%d %H:%M}" in said
    assert "no basis for lowering a limit" in said
    assert len(found.course["cpu_cores"]) >= 5
    page = usage_page.page(found)
    assert "Not known yet" in page


def test_what_came_twice_or_not_at_all_does_not_change_the_rate(tmp_path: Path) -> None:
    """Gather delivers at least once; a collector may pause."""
    one = [member(1)]
    steady = [batch("a", one, at_s, cpu_cores=[2.0]) for at_s in range(10, 3610, 10)]
    twice = archive_of(tmp_path / "twice", [*steady, *steady[20:40]])
    holes = archive_of(tmp_path / "holes", steady[:32] + steady[34:])

    for root in (twice, holes):
        row = usage(root).images[0]
        assert row["core_hours"] == pytest.approx(2.0)
        assert row["cores"] == pytest.approx(2.0)


def test_a_container_counts_for_as_long_as_it_was_seen(tmp_path: Path) -> None:
    """Short-lived ones are the point: a job of two minutes is two minutes."""
    long, short = member(1), member(2)
    records = [batch("a", [long], at_s, cpu_cores=[1.0]) for at_s in range(0, 3600, 10)]
    records += [batch("job", [short], at_s, cpu_cores=[4.0]) for at_s in range(600, 720, 10)]

    found = by_key(usage(archive_of(tmp_path, records)).images)

    assert found["job"]["core_hours"] == pytest.approx(4 * 120 / 3600)
    assert found["job"]["cores"] == pytest.approx(4 * 120 / 3600, rel=0.02)


def test_what_was_not_measured_is_no_zero(tmp_path: Path) -> None:
    """An average over zeros that nobody measured is too low."""
    nan = float("nan")
    records = [
        batch("a", [member(1)], at_s, cpu_cores=[3.0 if at_s % 20 else nan], processes=[1.0])
        for at_s in range(0, 600, 10)
    ]

    row = usage(archive_of(tmp_path, records)).images[0]

    assert row["cores"] == pytest.approx(3.0)
    assert row["memory_bytes"] is None


def test_only_the_time_asked_for_counts(tmp_path: Path) -> None:
    records = [
        batch("old" if at_s < 7200 else "new", [member(at_s // 7200)], at_s, cpu_cores=[1.0])
        for at_s in range(0, 10_800, 10)
    ]

    found = usage(archive_of(tmp_path, records), timedelta(minutes=50))

    assert [row["key"] for row in found.images] == ["new"]
    assert found.lasted == timedelta(minutes=50)


def test_holes_silence_and_age_are_said(tmp_path: Path) -> None:
    """A sum with a hole in it looks like any other sum."""
    records: list[Record] = [batch("a", [member(1)], at_s, cpu_cores=[1.0]) for at_s in (0, 10)]
    root = archive_of(tmp_path, [*records, silent("h9", 5), b"{torn"], missing=40)

    said = usage(root, late_s=7_200).unknown

    assert any("40 records that Kafka no longer had" in one for one in said)
    assert any("Host h9 was not seen all the time (silent)" in one for one in said)
    assert any("could not be decoded" in one for one in said)
    assert any("2 hours behind" in one for one in said)


def test_a_time_without_telemetry_is_said(tmp_path: Path) -> None:
    """The archive, or everything before it, stood still: an average hides that."""
    times = [*range(0, 3600, 10), *range(7200, 10_800, 10)]
    records = [batch("a", [member(1)], at_s, cpu_cores=[1.0]) for at_s in times]

    found = usage(archive_of(tmp_path, records))

    assert any("there is 2 hours of it in 3 hours" in one for one in found.unknown)
    assert found.images[0]["cores"] == pytest.approx(1.0)


def test_a_clock_far_ahead_does_not_move_the_end(tmp_path: Path) -> None:
    """One bad sample would make all others old."""
    good = batch("a", [member(1)], 10, cpu_cores=[1.0])
    ahead = batch("a", [member(2)], 400 * 86_400, cpu_cores=[1.0])
    archive_of(tmp_path, [good, ahead], arrived_s=11)

    assert usage(tmp_path).ends == START + timedelta(seconds=10)


def test_an_archive_without_a_sample_says_what_to_look_at(tmp_path: Path) -> None:
    archive_of(tmp_path, [silent("h1", 0)])

    with pytest.raises(ArchiveUnusable, match="no sample in it yet; see that collectors"):
        usage(tmp_path)


# ---- the page ------------------------------------------------------------------------------


class _Outside(HTMLParser):
    """Collects whatever would make a browser run a script or ask the network."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        risky = {name for name, _ in attrs if name in ("src", "href", "srcset") or name[:2] == "on"}
        if tag in ("script", "link", "img", "iframe", "object") or risky:
            self.found.append(tag)


def test_the_page_opens_anywhere_and_nothing_in_it_is_markup(tmp_path: Path) -> None:
    """Names are what a container's owner chose to say."""
    hostile = "<script>alert(1)</script>\x1b[2J'\"><img src=x onerror=alert(2)>".replace("\x1b", "")
    one = Member("c1", "h1", "image", hostile)
    records: list[Record] = [batch(hostile, [one], at_s, cpu_cores=[1.0]) for at_s in (0, 10, 20)]
    records.append(entry(one, hostile, team=hostile))

    page = usage_page.page(usage(archive_of(tmp_path, records)))

    outside = _Outside()
    outside.feed(page)
    assert outside.found == []
    assert "default-src 'none'" in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"https?://", page)


def test_a_long_table_ends_with_what_the_others_are_together(tmp_path: Path) -> None:
    """A page of a thousand images is read by nobody; its sum must still be right."""
    records = [
        batch(f"image-{n:02}", [member(n)], at_s, cpu_cores=[1.0 + n])
        for n in range(40) for at_s in (0, 10, 20)
    ]  # fmt: skip  # every image
    found = usage(archive_of(tmp_path, records))

    shown = usage_page.shortened(found.images)

    assert len(shown) == usage_page.MOST_ROWS + 1
    assert shown[-1]["key"] == "15 others"
    assert sum(row["cores"] for row in shown) == pytest.approx(found.totals["cores"])


def test_the_command_writes_page_csv_and_json(
    shop: tuple[Shop, Usage, Path], tmp_path: Path
) -> None:
    made, found, root = shop
    done = plimsoll(
        "report", "usage", "--dir", str(root), "--out", str(tmp_path / "u.html"),
        "--csv", str(tmp_path / "u.csv"), "--json",
        PLIMSOLL_ARCHIVE__TEAM_LABELS='["team","owner"]',
    )  # fmt: skip  # flags in lines

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["totals"]["core_hours"] == pytest.approx(found.totals["core_hours"])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "u.csv").read_text())))
    cart = next(row for row in rows if row["key"] == "shop/cart")
    assert float(cart["core_hours"]) == pytest.approx(made.core_hours(*made.cart))
    assert float(cart["memory_reserved"]) == 3 * GB
    assert (cart["growth_step"], cart["grouped_by"]) == ("hour", "image")
    assert {row["key"] for row in rows if row["grouped_by"] == "team"} == {"storefront", "bob", ""}
    assert "storefront" in (tmp_path / "u.html").read_text()
