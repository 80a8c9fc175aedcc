"""Case files of series that others recorded and labelled: Microsoft's Cloud Monitoring Dataset.

``python -m infra.bench.cloud_monitoring DATASET FOLDER`` reads the ``data`` folder of a copy of it
(MIT licence, not part of this project) and writes a case for each of its two intervals; then
``python -m infra.bench.unseen --files FOLDER/*.npz`` judges them. Each series is watched alone, by
its last six values, its last change, and what it is above its running median; the first quarter is
its history, labelled or not.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
from numpy.lib.stride_tricks import sliding_window_view

from models.features import Array

LAGS: Final = 6
MEDIAN_OF: Final = 60
HISTORY: Final = 0.25
_ONE_EVENT: Final = 5
"""Labels so many rows apart or fewer are of one event."""


def columns(values: Array) -> Array:
    """Shape (rows, 8): no row depends on a later one, but for the first hour's median."""
    rows = len(values)
    lags = [np.concatenate([np.full(lag, values[0]), values[: rows - lag]]) for lag in range(LAGS)]
    padded = np.concatenate([np.full(MEDIAN_OF - 1, np.median(values[:MEDIAN_OF])), values])
    median = np.median(sliding_window_view(padded, MEDIAN_OF), axis=1)
    change = np.diff(values, prepend=values[0])
    return np.stack([*lags, change, values - median], axis=1).astype(np.float32)


def events(label: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Each labelled row's event, -1 elsewhere.

    >>> events(np.array([0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1], np.int8)).tolist()
    [-1, 0, 0, -1, 0, -1, -1, -1, -1, -1, 1]
    """
    found = np.full(len(label), -1, np.int32)
    rows = np.flatnonzero(label)
    found[rows] = np.cumsum(np.diff(rows, prepend=rows[:1]) > _ONE_EVENT)
    return found


def cases(folder: Path) -> Mapping[str, bytes]:
    """Case files by name, of a folder that holds a folder of CSV files for each domain."""
    arrays: dict[float, dict[str, Any]] = {}
    for file in sorted(folder.glob("*/*.csv")):
        name = f"{file.parent.name}/{file.stem}"
        period_s, values, label = _read(file)
        rows, start = columns(values), int(len(values) * HISTORY)
        arrays.setdefault(period_s, {}).update({
            f"{name}/image": np.array(name),
            f"{name}/train": rows[:start],
            f"{name}/test": rows[start:],
            f"{name}/label": label[start:],
            f"{name}/event": events(label[start:]),
        })  # fmt: skip  # a table
    return dict(_packed(arrays))


def _packed(arrays: Mapping[float, Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for period_s, found in arrays.items():
        name = f"cloud-monitoring-{period_s:.0f}s"
        meta = {"name": name, "period_s": period_s, "merge_s": 3_600.0, "columns": LAGS + 2}
        target = io.BytesIO()
        np.savez_compressed(target, **{"meta": np.array(orjson.dumps(meta).decode()), **found})
        yield name, target.getvalue()


def _read(file: Path) -> tuple[float, Array, npt.NDArray[np.int8]]:
    """Seconds between rows, values and labels. What was not measured is taken as usual."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            told = list(csv.reader(opened))[1:]
        rows = [(at, float(value or "nan"), float(label or 0)) for at, value, label in told]
        times = [datetime.fromisoformat(rows[row][0]) for row in (0, 1)]
    except (ValueError, IndexError) as bad:
        raise SystemExit(f"{file}: not two rows or more of TimeStamp,Value,Label: {bad}") from bad
    values = np.array([value for _, value, _ in rows])
    values = np.where(np.isfinite(values), values, np.nanmedian(values))
    label = np.array([label > 0 for _, _, label in rows], np.int8)
    return (times[1] - times[0]).total_seconds(), values, label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="its data folder")
    parser.add_argument("folder", type=Path, help="for the case files")
    asked = parser.parse_args()
    found = cases(asked.dataset)
    if not found:
        parser.error(f"{asked.dataset} holds no folder with a CSV file")
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (asked.folder / f"{name}.npz").write_bytes(content)
        sys.stdout.write(f"{asked.folder / name}.npz\n")


if __name__ == "__main__":
    main()
