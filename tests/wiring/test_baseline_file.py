"""An exported baseline is a file that any reader of TOML or JSON takes."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from models.errors import ConfigurationError
from models.lineage import Image, LineageState
from models.normal import Normal, Usual
from models.rhythm import DAY_NS, noted
from streams.commands import baseline
from streams.stores.baselines import image_of

USUAL = Usual("memory_working_set_bytes", "B", 2.5e8, 2.1e8, 3.0e8, 0.04, 120.0)
NORMAL = Normal("default", "shop/web", "", "shop/web@sha256:1", 10**18, 0.99, 400.0, 6.2, (USUAL,))
HOUR_NS = 3_600 * 10**9
HOSTILE = ('program /bin/"sh"', "peer \x1b[2J:443", "back\\slash", "del\x7f", "two\nlines", "日本")


def written(monkeypatch: pytest.MonkeyPatch, found: Normal, file: Path) -> str:
    monkeypatch.setattr(baseline, "_find", lambda _lineage, _image: found)
    baseline.export("shop/web", "", file)
    return file.read_text()


def test_what_a_container_chose_to_be_called_cannot_break_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Facts hold names that come from inside of containers."""
    text = written(monkeypatch, replace(NORMAL, facts=HOSTILE), tmp_path / "web.toml")

    read = tomllib.loads(text)
    assert tuple(read["facts"]) == HOSTILE
    assert read["features"]["memory_working_set_bytes"] == {
        name: value for name, value in asdict(USUAL).items() if name != "feature"
    }
    assert (read["image"], read["known"]) == (NORMAL.image, 0.99)
    assert "\x1b" not in text


def test_json_is_chosen_by_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = written(monkeypatch, NORMAL, tmp_path / "web.json")

    assert orjson.loads(text)["features"][0]["usual"] == 2.5e8


def test_a_version_is_found_by_a_part_of_its_digest_and_only_when_it_is_clear() -> None:
    """Nobody types sixty-four digits; and the wrong version would be compared in silence."""
    state: Any = LineageState(lineage="shop/web")
    state.images = {
        name: Image(name, at) for at, name in enumerate(("w@sha256:aa11", "w@sha256:ab22"))
    }

    assert image_of(state, "").name == "w@sha256:ab22"
    assert image_of(state, "aa").name == "w@sha256:aa11"
    for unclear in ("sha256", "zz"):
        with pytest.raises(ConfigurationError, match="w@sha256:aa11"):
            image_of(state, unclear)


def test_several_roles_ask_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image as web and as worker are two baselines."""
    from streams.stores.baselines import Baselines

    states = [SimpleNamespace(lineage="shop/web", role=role) for role in ("api", "jobs")]
    some = object.__new__(Baselines)
    some._scope = "default"
    monkeypatch.setattr(Baselines, "_named", lambda _self, _groups: iter(()))
    monkeypatch.setattr(Baselines, "all", lambda _self: iter(states))

    with pytest.raises(ConfigurationError, match=r"shop/web/api, shop/web/jobs"):
        some.find("shop/web")


def kept(*images: Image) -> Any:
    state: Any = LineageState(lineage="shop/web", now_ns=2 * DAY_NS)
    state.images = {one.name: one for one in images}
    return SimpleNamespace(find=lambda _said: state)


def nightly(name: str, first_ns: int, cores: float) -> Image:
    """A version that at one o'clock on two nights had so many cores (transformed)."""
    rhythm = noted(noted({}, "cpu_cores", HOUR_NS, cores), "cpu_cores", DAY_NS + HOUR_NS, cores)
    return Image(name, first_ns, rhythm=rhythm)


def test_habits_are_shown_for_a_person_and_for_a_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no longer called at night, somebody must be able to read by day."""
    monkeypatch.setattr(baseline, "baselines", lambda: kept(nightly("w@sha256:aa", 0, 4.0)))

    baseline.show_one("shop/web")
    text = capsys.readouterr().out
    baseline.show_one("shop/web", as_json=True)
    (one,) = orjson.loads(capsys.readouterr().out)["habits"]

    for said in ("cpu_cores", "00:30 and 02:00", "2 days", "usual: only watched", " cores "):
        assert said in text
    assert (one["feature"], one["from_s"], one["until_s"]) == ("cpu_cores", 1_800, 7_200)
    assert (one["days"], one["usual"], one["unit"]) == (2, True, "cores")


def test_a_difference_tells_habits_that_were_given_up_and_taken_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A release that works at night, or no longer does."""
    old, new = nightly("w@sha256:aa", 0, 4.0), Image("w@sha256:bb", 1)
    monkeypatch.setattr(baseline, "baselines", lambda: kept(old, new))

    baseline.diff("shop/web")
    text = capsys.readouterr().out
    baseline.diff("shop/web", as_json=True)
    told = orjson.loads(capsys.readouterr().out)

    assert any(line.startswith("-") and "00:30 and 02:00" in line for line in text.splitlines())
    assert [one["feature"] for one in told["habits_given_up"]] == ["cpu_cores"]
    assert told["habits_taken_up"] == []
