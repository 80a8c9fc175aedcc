"""Fixtures that all tests share, one file a server; and what a skip means under CI."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has none

settings.register_profile("plimsoll", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("plimsoll")

LANES = {"contracts": "docker", "docker": "docker", "scenarios": "docker", "telemetry": "docker"}
"""Folders whose tests share the engine: where several processes share the work, one runs all of
a lane, one after another. Elsewhere a file's tests share what they have warmed up, each process
having a broker of its own."""

pytest_plugins = ["tests.fixtures_docker", "tests.fixtures_kafka", "tests.fixtures_secured"]


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A lane for each file, one for all that use the engine."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        return LANES.get(path.parent.name, str(path))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of a server come first, since they take longest."""
    servers = [*LANES, "kafka"]
    items.sort(key=lambda item: item.path.parent.name not in servers)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=true a test that skips has failed: there, everything can be had."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {reason}"
    return report
