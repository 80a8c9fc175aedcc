"""A case file is read as it is described, and answers are written as they are asked for."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from models.errors import MalformedRecord
from models.evaluation import evaluate, rows_of
from models.records.cases import Answer, Cases, pack_answers

META = {"name": "small", "period_s": 60.0, "merge_s": 3600.0, "columns": 3}
RNG = np.random.default_rng(7)


def case(**other: Any) -> io.BytesIO:
    """Two siblings and one of another image; labels that nobody may read."""
    arrays: dict[str, Any] = {"meta": np.array(json.dumps(META))}
    for name, image, rows in (("a/1", "web", 90), ("a/2", "web", 40), ("b", "db", 50)):
        arrays[f"{name}/image"] = np.array(image)
        arrays[f"{name}/train"] = RNG.normal(size=(120, 3)).astype(np.float32)
        arrays[f"{name}/test"] = RNG.normal(size=(rows, 3)).astype(np.float32)
        arrays[f"{name}/label"] = np.array([{"pickled": True}], object)
    arrays |= other
    target = io.BytesIO()
    np.savez_compressed(target, **{k: v for k, v in arrays.items() if v is not None})
    target.seek(0)
    return target


def answers(file: io.BytesIO) -> dict[str, Answer]:
    return {
        name: answer for step in evaluate(Cases(file), 1.0) for name, answer in step.answers.items()
    }


def test_every_row_of_every_entity_is_answered_and_labels_are_never_read() -> None:
    """Here reading a label would unpickle, which is refused."""
    file = case()
    found = answers(file)
    assert {name: answer.score.shape for name, answer in found.items()} == {
        "a/1": (90,), "a/2": (40,), "b": (50,),
    }  # fmt: skip  # a table
    assert all(np.isfinite(answer.score).all() for answer in found.values())
    steps = list(evaluate(Cases(file), 1.0))
    assert sum(step.rows for step in steps) == rows_of(Cases(file)) == 3 * 120 + 180


def test_siblings_are_those_of_one_image() -> None:
    cases = Cases(case())
    assert cases.images == {"web": ("a/1", "a/2"), "db": ("b",)}
    assert (cases.name, cases.merge_rows) == ("small", 60)
    assert cases.per_row(2.0) == pytest.approx(2 / 1440)


def test_a_stranger_s_rows_change_nothing() -> None:
    """Only siblings share: what another image does is no evidence here."""
    file = case()
    before = answers(file)
    with np.load(file, allow_pickle=True) as kept:
        arrays = {name: kept[name] for name in kept.files}
    arrays["b/test"] = arrays["b/test"] * 1e6
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    target.seek(0)
    after = answers(target)
    for name in ("a/1", "a/2"):
        np.testing.assert_array_equal(before[name].score, after[name].score)


def test_answers_are_read_back_without_a_pickle() -> None:
    packed = pack_answers({"x": Answer(np.array([1.5]), np.array([True]))}, 2.0, 0.25)
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        assert json.loads(str(file["meta"])) == {"budget": 2.0, "seconds": 0.25}
        assert file["x/score"].tolist() == [1.5]
        assert file["x/alarm"].tolist() == [True]


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ({"meta": None}, "meta"),
        ({"meta": np.array("{")}, "meta"),
        ({"meta": np.array("[]")}, "meta"),
        ({"meta": np.array(json.dumps(META | {"period_s": 0}))}, "meta.period_s"),
        ({"meta": np.array(json.dumps(META | {"merge_s": "an hour"}))}, "meta.merge_s"),
        ({"b/image": None}, "b/image"),
        ({"b/train": None}, "b/train"),
        ({"b/test": np.zeros(4)}, "b/test"),
        ({"b/test": np.array([["x"]])}, "b/test"),
        ({"b/train": np.array([[object()]])}, "b/train"),
        ({"a/2/train": np.zeros((9, 2))}, "a/1/train"),
    ],
)
def test_what_is_no_case_file_is_refused_by_the_array_s_name(
    other: dict[str, Any], place: str
) -> None:
    """Whoever made the file finds the fault without a debugger."""
    with pytest.raises(MalformedRecord) as refusal:
        answers(case(**other))
    assert refusal.value.place == place


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04 broken"])
def test_rubbish_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedRecord):
        Cases(io.BytesIO(content))


def test_a_single_array_and_a_file_without_entities_are_refused() -> None:
    one, none = io.BytesIO(), io.BytesIO()
    np.save(one, np.zeros(3))
    np.savez(none, meta=np.array(json.dumps(META)))
    for file in (one, none):
        file.seek(0)
        with pytest.raises(MalformedRecord):
            Cases(file)
