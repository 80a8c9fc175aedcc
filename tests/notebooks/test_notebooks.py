"""Each notebook runs as a script on what this project recorded, and computes what it says."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.drift import drifts
from models.errors import UntrustedFile
from models.features import INDEX, NAMES
from models.pipeline import Core
from models.policy import Policy
from models.records.codec import encode
from models.records.signed import Signed
from models.records.verdict import Level
from models.replay import Replay
from streams.archive.telemetry import ArchivedTelemetry
from streams.commands.cards import card
from streams.replaying import replayed
from streams.stores.models import ModelStore
from streams.training import HELD_OUT, candidate, gathered
from tests.notebooks.record import START_NS, STORIES, WHERE

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
ALL = sorted(path.stem for path in NOTEBOOKS.glob("*.py") if path.stem != "drawing")
ATTACK_NS = START_NS + int(STORIES["exfiltration"]) * 10**9
ATTACKER = "198.51.100.23"


@pytest.fixture(autouse=True)
def as_a_person_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The archive named by the environment, nobody at a screen."""
    monkeypatch.setenv("PLIMSOLL_ARCHIVE_DIR", str(WHERE))
    monkeypatch.setenv("PLIMSOLL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(NOTEBOOKS)
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def run(name: str, tmp_path: Path, **parameters: str) -> dict[str, Any]:
    """Execute a notebook, with some of its parameters changed as a person would."""
    text = (NOTEBOOKS / f"{name}.py").read_text()
    for parameter, value in parameters.items():
        before = next(line for line in text.splitlines() if line.startswith(f"{parameter} = "))
        text = text.replace(before, f"{parameter} = {value}", 1)
    script = tmp_path / f"{name}.py"
    script.write_text(text)
    return runpy.run_path(str(script))


def titles() -> list[str]:
    """What stands above the plots of all figures, which must hold something to see."""
    import matplotlib.pyplot as plt

    found = []
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.canvas.draw()
        for axes in figure.axes:
            if axes.get_visible():
                assert axes.has_data(), axes.get_title(loc="left")
                found.append(axes.get_title(loc="left"))
    return found


def test_an_image_is_explored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a parameter: what is there, the busiest image, its usual range and its peers."""
    made = run("explore_image", tmp_path)

    assert {row["lineage"].rpartition("/")[2] for row in made["rows"]} == {
        "orders-db", "payments", "search",
    }  # fmt: skip  # one set
    assert made["rows"][0]["containers"] == len(made["containers"])
    assert made["known"].known > 0.95
    inside = made["bands"]["cpu_cores"]
    values = made["series"]["cpu_cores"]
    assert ((values >= inside.low) & (values <= inside.high)).mean() > 0.8
    assert "CPU" in titles()
    assert "cpu_cores" in capsys.readouterr().out


def test_a_new_peer_stands_where_it_first_appeared(tmp_path: Path) -> None:
    """The attacker's host, on one container alone, not before the attack."""
    made = run("explore_image", tmp_path, LINEAGE='"registry.example/shop/orders-db"')

    first = made["firsts"][f"{ATTACKER}:443"].astype("datetime64[ns]").astype("int64")
    assert ATTACK_NS <= first <= ATTACK_NS + 15 * 10**9
    assert any(title.startswith("orders-db@") for title in titles())


def test_a_window_is_kept_to(tmp_path: Path) -> None:
    made = run("explore_image", tmp_path, SINCE='"20m"', UNTIL='"15m"')

    seen = made["series"]["began"].astype("datetime64[ns]").astype("int64")
    _, ends_ns = ArchivedTelemetry(WHERE).span()
    assert ends_ns - 1_215 * 10**9 <= seen.min() <= seen.max() < ends_ns - 900 * 10**9


def test_a_model_is_trained_as_the_command_trains_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes, so that what a notebook promised is what is announced."""
    kept = tmp_path / "models"
    made = run("retrain_and_compare", tmp_path, KEEP_IN=f"'{kept}'", SEED="3")

    source = ArchivedTelemetry(WHERE)
    begins_ns, ends_ns = source.span()
    manifest, content = candidate(
        source, "default", begins_ns, ends_ns, now_ns=ends_ns, seed=3, core=made["core"]
    )
    assert (made["manifest"], made["content"]) == (manifest, content)
    assert ModelStore(kept).load(manifest.sha256) == content
    assert "\n".join(card(manifest)) in capsys.readouterr().out


def test_what_would_change_is_what_a_replay_says(tmp_path: Path) -> None:
    made = run("retrain_and_compare", tmp_path)

    would = replayed(
        ArchivedTelemetry(WHERE), made["asked"], Policy(), "default", made["held_out"], made["core"]
    )
    assert list(map(encode, made["would"].findings)) == list(map(encode, would.findings))
    assert made["then"].isolations == made["would"].isolations == 1
    assert {one.verdict.level for one in made["then"].alarms()} >= {Level.COMPROMISED}
    assert made["difference"].same >= 1
    assert titles()[:2] == [
        "Drift since training (PSI of deviations)",
        f"Surprise of {made['tried'].samples} held-out samples",
    ]


def test_the_card_tells_the_drift_between_training_and_what_was_held_out() -> None:
    """Computed once more from the rows themselves."""
    source = ArchivedTelemetry(WHERE)
    begins_ns, ends_ns = source.span()
    manifest, _ = candidate(source, "default", begins_ns, ends_ns, now_ns=ends_ns)
    split_ns = ends_ns - int((ends_ns - begins_ns) * HELD_OUT)
    replay = Replay(Core(), at_once=1)
    trained = gathered(replay, source, "default", begins_ns, split_ns).rows

    assert manifest.evaluation is not None
    drift = manifest.evaluation.drift
    assert set(drift) == set(NAMES)
    assert all(0 <= one < 0.25 for one in drift.values()), "the same fleet"
    moved = trained.copy()
    moved[:, INDEX["processes"]] += 3.0
    first, much = next(iter(drifts(trained, moved, NAMES).items()))
    assert (first, much > 1) == ("processes", True)
    assert any("drift     PSI" in line for line in card(manifest))


def test_an_incident_is_told_from_first_word_to_last_act(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a parameter it is the worst of the window."""
    made = run("investigate_incident", tmp_path)

    assert made["found"].level is Level.COMPROMISED
    assert ATTACK_NS <= made["found"].at_ns <= ATTACK_NS + 60 * 10**9
    assert made["portrait"] is not None
    assert [order.action.value for order in made["orders"]] == ["isolate"]
    assert [one.verified for one in made["outcomes"]] == [True]
    assert [(kind, what) for _, kind, what, _, _ in made["new"]] == [
        ("connections", f"egress {ATTACKER}:443/tcp")
    ]
    assert "level (until the next word)" in titles()
    assert "isolate, verified" in capsys.readouterr().out


def test_an_incident_s_name_leads_to_its_container(tmp_path: Path) -> None:
    (order,) = run("investigate_incident", tmp_path)["orders"]

    made = run("investigate_incident", tmp_path, TARGET=f'"{order.incident}"')
    watched = run("investigate_incident", tmp_path, TARGET='"shop-payments-1"')

    assert made["found"].subject == order.subject
    assert watched["found"].level is Level.WATCH
    assert watched["orders"] == []


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("explore_image", {"LINEAGE": '"shop/o\'clock"'}, "no samples of shop/o'clock"),
        ("investigate_incident", {"SINCE": '"49m"', "UNTIL": '"48m"'}, "look further back"),
    ],
)
def test_what_is_not_there_is_said(
    name: str, parameters: dict[str, str], said: str, tmp_path: Path
) -> None:
    """A traceback from within a query tells nobody which parameter to change."""
    with pytest.raises(SystemExit, match=said):
        run(name, tmp_path, **parameters)


def test_a_model_s_card_leads_to_its_forest(tmp_path: Path) -> None:
    """A verdict that a forest had a part in is seen with that forest, or not at all."""
    source, store = ArchivedTelemetry(WHERE), ModelStore(tmp_path)
    manifest, content = candidate(source, "default", *source.span(), now_ns=source.span()[1])
    with pytest.raises(UntrustedFile, match="models_dir"):
        store.forest(manifest.uid)
    store.save(content)
    store.save_card(manifest, Signed("trainer-1", bytes(64), encode(manifest)))
    assert store.forest(manifest.uid).trees.uid == manifest.uid


@pytest.mark.parametrize("name", ALL)
def test_jupytext_makes_a_notebook_of_it_without_outputs(name: str, tmp_path: Path) -> None:
    """What is kept is text: outputs hold what a fleet did, and no diff shows what changed."""
    import jupytext

    notebook = jupytext.read(NOTEBOOKS / f"{name}.py")

    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert kinds.count("code") >= 5
    assert notebook.cells[1].metadata["tags"] == ["parameters"]
    again, ours = jupytext.writes(notebook, "py:percent"), (NOTEBOOKS / f"{name}.py").read_text()
    assert again.split("# ---\n", 2)[2].strip() == ours.split("# ---\n", 2)[2].strip()
