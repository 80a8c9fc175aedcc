"""``plimsoll evaluate`` as people and scripts call it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.wiring.test_cli import plimsoll


def small_case(path: Path) -> Path:
    rng = np.random.default_rng(3)
    meta = {"name": "small", "period_s": 60.0, "merge_s": 3600.0, "columns": 4}
    arrays = {"meta": np.array(json.dumps(meta))}
    for name in ("one", "two"):
        arrays[f"{name}/image"] = np.array("web")
        arrays[f"{name}/train"] = rng.normal(size=(300, 4))
        arrays[f"{name}/test"] = rng.normal(size=(200, 4))
    arrays["two/test"][100:104] += 20.0
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub takes the names for flags
    return path


def test_a_case_is_answered_and_the_fault_in_it_found(tmp_path: Path) -> None:
    case, out = small_case(tmp_path / "case.npz"), tmp_path / "answers.npz"

    done = plimsoll("evaluate", str(case), "--budget", "2", "--out", str(out), "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["case"], told["entities"], told["rows"]) == ("small", 2, 1000)
    with np.load(out, allow_pickle=False) as answers:
        assert json.loads(str(answers["meta"]))["budget"] == 2.0
        assert answers["two/alarm"][100]
        assert answers["two/score"].argmax() in range(100, 104)
        assert answers["one/score"].shape == (200,)


def test_a_file_that_is_missing_or_no_case_is_one_line(tmp_path: Path) -> None:
    """With its name, and no answer file left behind."""
    out, rubbish = tmp_path / "answers.npz", tmp_path / "rubbish.npz"
    rubbish.write_bytes(b"no npz")
    for path, code in ((tmp_path / "nowhere.npz", 2), (rubbish, 1)):
        done = plimsoll("evaluate", str(path), "--out", str(out))
        assert done.returncode == code
        assert path.name in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not out.exists()
