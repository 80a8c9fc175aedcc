"""An image with a program of its own, and a collector that watches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.collecting import Collecting
from tests.fixtures_docker import TestEngine


@pytest.fixture(scope="module")
def image(docker_engine: TestEngine) -> str:
    return docker_engine.image("collect", files={"/bin/tool": b"#!/bin/sh\nexec sleep 1000\n"})


@pytest.fixture
def collecting(tmp_path: Path) -> Iterator[Collecting]:
    made = Collecting(tmp_path)
    made.poll()
    yield made
    made.source.close()
