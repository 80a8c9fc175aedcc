"""The named, ordered features: the unit of each, what it speaks for, how it is scaled.

Names follow OpenTelemetry's semantic conventions where one exists, with the unit in the
name. What a batch has beyond these is passed over; what it lacks is NaN.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from models.records.samples import Samples
from models.records.verdict import Family

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Feature:
    """``floor`` is the amount below which differences interest nobody: values are seen as
    ``asinh(value / floor)``, linear below it and logarithmic above, so heavy tails and
    zeros both do. ``noise`` is the least scale we believe in, in that transformed unit
    (above the floor about a relative error). ``additive`` values of containers add up.
    """

    name: str
    unit: str
    family: Family
    floor: float
    noise: float
    alarming: Literal["high", "both"] = "high"
    additive: bool = True
    says: str = ""


_CPU, _OUT, _IN = Family.RESOURCE, Family.EGRESS, Family.INGRESS

MEASURED: Final = (
    Feature("cpu_cores", "cores", _CPU, 0.02, 0.10, says="CPU"),
    Feature("cpu_throttled_ratio", "", _CPU, 0.1, 0.5, additive=False, says="CPU throttled"),
    Feature("memory_working_set_bytes", "B", _CPU, 4e6, 0.03, says="memory in use"),
    Feature("memory_limit_ratio", "", _CPU, 0.1, 0.1, additive=False, says="memory limit used"),
    Feature("disk_read_bytes_per_s", "B/s", _CPU, 65_536, 0.2, says="disk reads"),
    Feature("disk_write_bytes_per_s", "B/s", _CPU, 65_536, 0.2, says="disk writes"),
    Feature("network_receive_bytes_per_s", "B/s", _IN, 2_048, 0.15, says="received"),
    Feature("network_transmit_bytes_per_s", "B/s", _OUT, 2_048, 0.15, says="sent"),
    Feature("network_receive_packets_per_s", "/s", _IN, 10, 0.15, says="packets received"),
    Feature("network_transmit_packets_per_s", "/s", _OUT, 10, 0.15, says="packets sent"),
    Feature("network_connections_opened_per_s", "/s", _OUT, 1, 0.2, says="connections opened"),
    Feature("network_peers", "", _OUT, 3, 0.25, says="peers talked to"),
    Feature("processes", "", Family.PROCESS, 3, 0.2, says="processes"),
)
"""What collectors measure."""

DERIVED: Final = (
    Feature(
        "network_transmit_bytes_per_packet", "B/packet", _OUT, 400, 0.1,
        "both", additive=False, says="bytes in a sent packet",
    ),
    Feature(
        "network_transmit_bytes_per_received", "B/B", _OUT, 4, 0.15,
        additive=False, says="sent for each byte received",
    ),
)  # fmt: skip  # as compact as the table above
"""What follows from them: a tunnel of small packets and an answer without a question show
here first, whatever the load.
"""

FEATURES: Final = (*MEASURED, *DERIVED)
NAMES: Final = tuple(feature.name for feature in FEATURES)
SIZE: Final = len(NAMES)
INDEX: Final = {name: at for at, name in enumerate(NAMES)}
FLOORS: Final = np.array([feature.floor for feature in FEATURES])
NOISE: Final = np.array([feature.noise for feature in FEATURES])
FAMILIES: Final = tuple(feature.family for feature in FEATURES)
BOTH_WAYS: Final = np.array([feature.alarming == "both" for feature in FEATURES])

LEAST_PACKETS: Final = 5.0
LEAST_SENT: Final = 2_048.0
"""What a container must send a second, in packets and bytes, for a ratio to mean something."""
IDLE: Final = slice(len(MEASURED), None)
"""The derived features: missing, they say that there was nothing to divide, which is no
departure; a measured one that is missing may still be what it was."""

_SENT, _RECEIVED = INDEX["network_transmit_bytes_per_s"], INDEX["network_receive_bytes_per_s"]
_SENT_PACKETS = INDEX["network_transmit_packets_per_s"]


Places = list[int] | slice


@functools.lru_cache(maxsize=256)
def _places(names: tuple[str, ...]) -> tuple[Places, Places]:
    """Where in FEATURES, and where in a batch, the measured features are that it has."""
    pairs = [(INDEX[f.name], names.index(f.name)) for f in MEASURED if f.name in names]
    return _in_one([ours for ours, _ in pairs]), _in_one([theirs for _, theirs in pairs])


def _in_one(places: list[int]) -> Places:
    """As a slice where they lie in one piece: no copy then."""
    first = places[0] if places else 0
    whole = places == list(range(first, first + len(places)))
    return slice(first, first + len(places)) if whole else places


def measured(*tables: Samples) -> Array:
    """Values in each feature's own unit, derived ones too, table by table. Shape (rows,
    features).

    A value that is not finite or is negative is no measurement: NaN.
    """
    values = np.full((len(NAMES), sum(map(len, tables))), np.nan)
    if all(table.features == tables[0].features for table in tables):
        ours, theirs = _places(tables[0].features)
        values[ours] = np.concatenate([table.columns[theirs] for table in tables], axis=1)
    else:
        at = 0
        for table in tables:
            ours, theirs = _places(table.features)
            values[ours, at : at + len(table)] = table.columns[theirs]
            at += len(table)
    np.putmask(values, ~((values >= 0.0) & (values < 1e18)), np.nan)
    sent, packets, received = values[_SENT], values[_SENT_PACKETS], values[_RECEIVED]
    # Of next to nothing no ratio can be told; the constants calm those of little.
    values[-2] = np.where(packets >= LEAST_PACKETS, (sent + 2_000.0) / (packets + 10.0), np.nan)
    values[-1] = np.where(sent >= LEAST_SENT, (sent + 2_048.0) / (received + 2_048.0), np.nan)
    return np.ascontiguousarray(values.T)


def transform(values: Array) -> Array:
    """Values as baselines and detectors see them; monotone in each feature.

    >>> float(transform(np.zeros((1, len(NAMES)))).max())
    0.0
    """
    seen: Array = np.arcsinh(values / FLOORS)
    return seen


def restore(seen: Array) -> Array:
    """The inverse of :func:`transform`, never negative."""
    values: Array = np.maximum(np.sinh(np.minimum(seen, 45.0)), 0.0) * FLOORS
    return values
