"""A model as a file, a forest and histories: npz without pickles, checked through and through
before use.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, Final

import numpy as np

from models.budget import Tail
from models.detectors.forest import Trees
from models.detectors.residual import Residual
from models.errors import UntrustedFile
from models.features import Array
from models.following import HORIZONS
from models.history import History
from models.npz import DAMAGED

FORMAT: Final = 1
MOST_BYTES: Final = 64 * 2**20
MOST_TREES: Final = 1_000
MOST_DEPTH: Final = 12
MOST_TABLE_BYTES: Final = 2**29
"""What a forest is looked up in grows with the square of its splits; ours take 3 MB."""
MOST_THRESHOLD: Final = 1e9
"""Deviations are bounded far below; beyond, differences of thresholds overflow."""
MOST_HISTORIES: Final = 4_096
"""Groups of which one file tells; each takes 6 KB of it."""
_ARRAYS: Final = frozenset({
    "format", "features", "feature", "threshold", "leaf", "usual", "ranks", "expected",
})  # fmt: skip  # a list
_HISTORIES: Final = frozenset({"groups", "spread", "low", "high", "whitening", "tail"})
"""In files that hold histories, all of them."""
_BY_FEATURE: Final = ("spread", "low", "high")
_MOST: Final = 1e6
"""Spreads, weights and evidence of deviations lie far below."""


def save(trees: Trees) -> bytes:
    """The file's bytes; the same trees give the same bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in _arrays(trees).items():
            body = io.BytesIO()
            np.lib.format.write_array(body, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), body.getvalue())
    return target.getvalue()


def _arrays(trees: Trees) -> dict[str, Any]:
    return {
        "format": np.array(FORMAT),
        "features": np.array(trees.features),
        "feature": trees.feature,
        "threshold": trees.threshold,
        "leaf": trees.leaf,
        "usual": np.array(trees.usual),
        "ranks": trees.ranks,
        "expected": trees.expected,
    } | (_of_histories(trees.histories) if trees.histories else {})


def _of_histories(histories: Mapping[str, History]) -> dict[str, Any]:
    each = [histories[group] for group in sorted(histories)]
    return {
        "groups": np.array(sorted(histories)),
        **{name: np.array([getattr(one, name) for one in each]) for name in _BY_FEATURE},
        "whitening": np.array([one.residual.whitening for one in each]),
        "tail": np.array([astuple(one.tail) for one in each], np.float64),
    }


def digest(data: bytes) -> str:
    """What a manifest names a model file by."""
    return hashlib.sha256(data).hexdigest()


def load(data: bytes, sha256: str, uid: str = "") -> Trees:
    """The forest in a file, once hash, shapes, bounds and finiteness hold.

    Raises: UntrustedFile, and nothing else; nothing of the file was used then.
    """
    if len(data) > MOST_BYTES:
        raise UntrustedFile(f"model file of {len(data)} bytes, at most {MOST_BYTES}")
    if digest(data) != sha256:
        raise UntrustedFile(f"model file's SHA-256 is {digest(data)}, its manifest says {sha256}")
    arrays = _read(data)
    _check(arrays)
    return Trees(
        tuple(str(name) for name in arrays["features"]), arrays["feature"], arrays["threshold"],
        arrays["leaf"], float(arrays["usual"]), arrays["ranks"], arrays["expected"],
        uid or sha256[:16], _histories(arrays) if "groups" in arrays else {},
    )  # fmt: skip  # in the order of the class


def _histories(arrays: dict[str, Any]) -> dict[str, History]:
    tails = (Tail(high, excess, int(blocks)) for high, excess, blocks in arrays["tail"].tolist())
    spread, low, high = (arrays[name] for name in _BY_FEATURE)
    each = map(History, spread, low, high, map(Residual, arrays["whitening"]), tails)
    return dict(zip(arrays["groups"].tolist(), each, strict=True))


def _read(data: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # What it unpacks to is bounded before anything is unpacked.
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise UntrustedFile(f"model file unpacks to more than {MOST_BYTES} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            names = set(file.files)
            if names not in (_ARRAYS, _ARRAYS | _HISTORIES) or len(names) != len(file.files):
                raise UntrustedFile(f"model file holds {sorted(file.files)}, not a forest")
            arrays = {name: file[name] for name in names}
    except DAMAGED as bad:
        raise UntrustedFile(f"not a model file: {bad}") from bad
    # What does not begin as an array does comes back as bytes.
    _demand(all(isinstance(array, np.ndarray) for array in arrays.values()), "not all arrays")
    return arrays


def _check(arrays: dict[str, Any]) -> None:
    if arrays["format"].shape != () or arrays["format"] != FORMAT:
        raise UntrustedFile(f"model file of another format than {FORMAT}: train anew")
    features, leaf = arrays["features"], arrays["leaf"]
    _demand(features.dtype.kind == "U" and features.ndim == 1, "features are not names")
    _demand(0 < len(features) == len(set(features.tolist())), "features are not distinct")
    _demand(leaf.ndim == 2 and 0 < len(leaf) <= MOST_TREES, "no, or too many, trees")
    leaves = leaf.shape[1]
    _demand(leaves in {2**depth for depth in range(1, MOST_DEPTH + 1)}, "trees are not complete")
    for name, kind in (("feature", np.int16), ("threshold", np.float32), ("expected", np.float64)):
        fits = arrays[name].shape == (len(leaf), leaves - 1) and arrays[name].dtype == kind
        _demand(fits, f"{name} does not fit its trees")
    _check_values(arrays)
    if "groups" in arrays:
        with np.errstate(invalid="ignore"):  # a signalling NaN is one
            _check_histories(arrays)


def _check_histories(arrays: dict[str, Any]) -> None:
    groups, spread, tail = (arrays[name] for name in ("groups", "spread", "tail"))
    named = groups.dtype.kind == "U" and groups.ndim == 1
    _demand(named and 0 < len(groups) <= MOST_HISTORIES, "no, or too many, histories")
    _demand(len(set(groups.tolist())) == len(groups), "two histories of one group")
    columns = len(arrays["features"])
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_BY_FEATURE, (columns,))
    shapes |= {"whitening": (HORIZONS, columns, columns), "tail": (3,)}
    for name, shape in shapes.items():
        values = arrays[name]
        fits = values.shape == (len(groups), *shape) and values.dtype == np.float64
        _demand(fits, f"{name} does not fit its groups")
        never = {"low": np.inf, "high": -np.inf}.get(name)  # what no container ever showed
        near = (np.abs(values) <= _MOST) | (values == never)
        _demand(bool(near.all()), f"{name} is out of reach")
    _demand(bool((spread >= 1e-9).all()), "a spread is not positive")
    excess, blocks = tail[:, 1], tail[:, 2]
    good = (excess > 0.0) & (blocks >= 0.0) & (blocks == np.floor(blocks))
    _demand(bool(good.all()), "a tail that no history has")


def _check_values(arrays: dict[str, Any]) -> None:
    feature, threshold, ranks = arrays["feature"], arrays["threshold"], arrays["ranks"]
    known = bool((feature >= 0).all() and (feature < len(arrays["features"])).all())
    _demand(known, "a split names no feature")
    _demand(not (np.isnan(threshold) | np.isneginf(threshold)).any(), "a threshold is no number")
    # Plus infinity sends all to the left; what is finite lies where deviations do.
    finite = np.where(np.isinf(threshold), 0.0, threshold)
    _demand(bool((np.abs(finite) <= MOST_THRESHOLD).all()), "a threshold is out of reach")
    usual = arrays["usual"]
    _demand(usual.shape == () and usual.dtype == np.float64 and 0 < usual < 64, "bad usual path")
    for name, least, most in (("leaf", 0.0, 64.0), ("expected", 0.0, 64.0), ("ranks", -1.0, 0.0)):
        values: Array = arrays[name]
        good = values.dtype == np.float64 and bool(((values >= least) & (values <= most)).all())
        _demand(good, f"{name} lies outside of {least:g} to {most:g}")
    ordered = ranks.ndim == 1 and len(ranks) >= 2 and bool((np.diff(ranks) >= 0).all())
    _demand(ordered, "ranks are not in order")
    row_bytes = arrays["leaf"].size // 8 + len(np.unique(arrays["leaf"]))
    table_bytes = int(np.isfinite(threshold).sum()) * row_bytes
    if table_bytes > MOST_TABLE_BYTES:
        raise UntrustedFile(
            f"model file whose tables would take {table_bytes >> 20} MB, at most "
            f"{MOST_TABLE_BYTES >> 20}: train with fewer trees, or fewer samples a tree"
        )


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise UntrustedFile(f"model file is damaged or forged: {problem}")
