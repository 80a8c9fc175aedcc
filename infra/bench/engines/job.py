"""The job that the Python engines other than Plimsoll do, so that they differ in nothing else.

Of a message the image and its samples are decoded; each sample becomes deviations from a
moving baseline of its image, and is scored by 100 trees; the baseline is kept; one alert a
message tells of all samples under the threshold. ``BENCH_SCORER`` says who scores: ``ours``,
Plimsoll's own forest, or ``documented``, scikit-learn's, as its users know it. The trees are
the same.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

Array = npt.NDArray[np.float64]

BOOTSTRAP: Final = os.environ.get("BENCH_BOOTSTRAP", "")
TOPIC: Final = os.environ.get("BENCH_TOPIC", "")
RUN: Final = os.environ.get("BENCH_RUN", "")
"""Consumer group of this run, and what its own topics begin with."""
MESSAGES: Final = int(os.environ.get("BENCH_MESSAGES", "0"))
ENCODING: Final = os.environ.get("BENCH_ENCODING", "json")
SCORER: Final = os.environ.get("BENCH_SCORER", "ours")
DIRECTORY: Final = Path(os.environ.get("BENCH_DIRECTORY", "."))
ALERTS: Final = f"{RUN}-alerts"
CHANGELOG: Final = f"{RUN}-changelog"

SIZE: Final = 15
WEIGHT: Final = 0.01
THRESHOLD: Final = -0.6
_SENT, _RECEIVED, _SENT_PACKETS = 7, 6, 9


def decode(data: bytes) -> tuple[str, Array]:
    """The image, and its samples with the two ratios that follow. Shape (features, samples)."""
    return _DECODERS[ENCODING](data)


def _from_json(data: bytes) -> tuple[str, Array]:
    body = orjson.loads(data)
    return body["lineage"], _derived(np.array(body["samples"]["columns"]))


def _derived(columns: Array) -> Array:
    values = np.empty((SIZE, columns.shape[1]))
    values[:-2] = columns
    sent = columns[_SENT]
    values[-2] = (sent + 2_000.0) / (columns[_SENT_PACKETS] + 10.0)
    values[-1] = (sent + 2_048.0) / (columns[_RECEIVED] + 2_048.0)
    return values


def _from_binary(data: bytes) -> tuple[str, Array]:
    """docs/records.md; what is not looked at is not read."""
    _magic, _version, _values, features, rows, text_bytes = _HEAD.unpack_from(data)
    at = _HEAD.size + text_bytes
    at += -at % 8 + 8 * rows
    columns = np.frombuffer(data, "<f8", features * rows, at).reshape(features, rows)
    head = orjson.loads(data[_HEAD.size : data.index(b"\n", _HEAD.size)])
    return head["lineage"], _derived(columns)


_HEAD: Final = struct.Struct("<4sBcHII")
_DECODERS: Final[dict[str, Callable[[bytes], tuple[str, Array]]]] = {
    "json": _from_json,
    "binary": _from_binary,
}


def step(state: bytes | None, values: Array) -> tuple[Array, bytes]:
    """Deviations from the baseline before the batch, (features, samples), and the one after."""
    count = values.shape[1]
    if state is None:
        mean, variance, seen = values.mean(1), values.var(1) + 1.0, 0.0
    else:
        held = np.frombuffer(state)
        mean, variance, seen = held[:SIZE], held[SIZE:-1], held[-1]
    off = values - mean[:, None]
    # A plain average until the moving one has warmed up.
    weight = max(1.0 - (1.0 - WEIGHT) ** count, count / (seen + count + 1.0))
    after = np.empty(2 * SIZE + 1)
    np.add(mean, weight * (off.sum(1) / count), out=after[:SIZE])
    squares = np.einsum("ij,ij->i", off, off)
    np.add(variance * (1.0 - weight), weight / count * squares, out=after[SIZE:-1])
    after[-1] = seen + count
    off /= np.sqrt(variance)[:, None]
    return off, after.tobytes()


def alert(image: str, scores: Array) -> bytes | None:
    """What to say of a batch; mostly nothing."""
    odd = np.flatnonzero(scores < THRESHOLD)
    if not len(odd):
        return None
    return orjson.dumps({"image": image, "at": odd.tolist(), "score": scores[odd].tolist()})


def scorer() -> Callable[[Array], Array]:
    """Deviations (samples, features) → scores (samples,)."""
    return _SCORERS[SCORER]()


def _ours() -> Callable[[Array], Array]:
    from models.detectors.forest import Forest
    from models.modelfile import digest, load
    from streams import heap

    heap.keep()  # as our own worker does
    content = (DIRECTORY / "forest.npz").read_bytes()
    return Forest(load(content, digest(content))).scores


def _documented() -> Callable[[Array], Array]:
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(n_estimators=100, max_samples=256, random_state=0)
    model.fit(np.load(DIRECTORY / "rows.npy").astype(np.float32))
    score: Callable[[Array], Array] = model.score_samples
    return score


_SCORERS: Final = {"ours": _ours, "documented": _documented}


class Meter:
    """Clock and CPU of all threads from the first message in the program's hands until all
    outputs are flushed and all offsets committed.
    """

    def __init__(self) -> None:
        self.messages = self.samples = self.alerts = 0
        self._began: tuple[float, float] | None = None

    def start(self) -> None:
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def add(self, samples: int, *, alerted: bool) -> bool:
        """Count a message; whether it was the last."""
        self.messages += 1
        self.samples += samples
        self.alerts += alerted
        return self.messages >= MESSAGES

    def tell(self, **more: Any) -> None:
        assert self._began is not None
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        body = {
            "messages": self.messages, "samples": self.samples, "outputs": self.alerts,
            "wall_s": wall_s - self._began[0], "cpu_s": cpu_s - self._began[1], **more,
        }  # fmt: skip  # a record
        sys.stdout.write(f"\nRESULT {json.dumps(body)}\n")  # Faust leaves its line unended
        sys.stdout.flush()
