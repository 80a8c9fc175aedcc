"""The worker whose judge does nothing but ask the forest: what better judging could win at most.

Everything else is as it is: Faust, reading and checking of messages, tables, commits. Each
lineage's first records are judged, so that there is a state to keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from infra.bench.engines import plimsoll
from models.features import measured, transform
from models.lineage import LineageState
from models.pipeline import Arrival, Core, Judgement, judge
from models.records.telemetry import Batch
from streams.agents import judge as judging

_LATEST_NS: Final = 2**62


def main() -> None:
    judging.judge = _asked  # type: ignore[attr-defined]  # the judge's own name for it
    plimsoll.main()


def _asked(
    states: Mapping[str, LineageState], arrivals: Sequence[Arrival], core: Core
) -> Judgement:
    held: dict[str, LineageState] = {}
    for arrival in arrivals:
        try:
            held[arrival.group] = states[arrival.group]
        except KeyError:
            return judge(states, arrivals, core)
    forest = core.models.active(_LATEST_NS)
    tables = [one.record.samples for one in arrivals if isinstance(one.record, Batch)]
    if forest is not None and tables:
        forest.surprise(np.nan_to_num(transform(measured(*tables))))
    return Judgement(held)


if __name__ == "__main__":
    main()
