"""The ``docker_engine`` fixture: the real engine of this machine."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import docker
import pytest
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.models.networks import Network

from infra import images

HOW_TO = "start one with infra/docker.sh start (as root), then run the tests as root"


@dataclass
class TestEngine:
    """The engine, and names under a prefix of their own; removes all it made."""

    __test__ = False  # pytest would take it for a class of tests

    client: docker.DockerClient
    prefix: str = field(default_factory=lambda: f"plt-{uuid.uuid4().hex[:8]}")
    _images: list[str] = field(default_factory=list)
    _networks: list[Network] = field(default_factory=list)
    _containers: list[str] = field(default_factory=list)

    def image(
        self,
        name: str,
        *,
        command: Sequence[str] = ("/bin/sleep", "1000000"),
        files: Mapping[str, bytes] | None = None,
        labels: Mapping[str, str] | None = None,
        user: str = "",
    ) -> str:
        """A busybox image called PREFIX/name, for :meth:`run`; see ``infra.images.build``."""
        tag = f"{self.prefix}/{name}:1"
        images.build(self.client, tag, command=command, files=files, labels=labels or {}, user=user)
        self._images.append(tag)
        return tag

    def network(self, name: str, subnet: str | None = None) -> Network:
        pools = [docker.types.IPAMPool(subnet)] if subnet else []
        config = docker.types.IPAMConfig(pool_configs=pools) if pools else None
        made = self.client.networks.create(
            f"{self.prefix}-{name}", driver="bridge", ipam=config, check_duplicate=True
        )
        self._networks.append(made)
        return made

    def run(self, image: str, command: Sequence[str] | str | None = None, *, name: str = "",
            **options: Any) -> Container:  # fmt: skip  # one signature, two lines
        """A running container called PREFIX-name; ``options`` are the Docker SDK's."""
        called = f"{self.prefix}-{name or uuid.uuid4().hex[:6]}"
        given = list(command) if command is not None and not isinstance(command, str) else command
        made = self.client.containers.create(image, given, name=called, **options)
        assert made.id is not None, "created containers have an id"
        self._containers.append(made.id)
        made.start()
        made.reload()
        return made

    def adopt(self, container_id: str) -> None:
        """Remove this one as well, at the end."""
        self._containers.append(container_id)

    def clean(self) -> None:
        for container_id in self._containers:
            self._forget_container(container_id)
        for network in self._networks:
            try:
                network.remove()
            except NotFound:
                continue
        for tag in self._images:
            try:
                self.client.images.remove(tag, force=True)
            except NotFound:
                continue

    def _forget_container(self, container_id: str) -> None:
        try:
            self.client.api.remove_container(container_id, force=True, v=True)
        except NotFound:
            return
        except APIError as problem:
            if "already in progress" not in str(problem):
                raise


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    """A client of the engine; skips where none answers or we lack root, under CI fails."""
    if os.geteuid() != 0:
        _go_without("these tests look into containers, which takes root")
    try:
        client = docker.from_env(timeout=60)
        client.ping()
        images.busybox()
    except (DockerException, images.NoBusybox) as reason:
        _go_without(str(reason))
    yield client
    client.close()


@pytest.fixture(scope="module")
def docker_engine(docker_client: docker.DockerClient) -> Iterator[TestEngine]:
    engine = TestEngine(docker_client)
    yield engine
    engine.clean()


def _go_without(reason: str) -> NoReturn:
    said = f"no Docker engine: {reason}; {HOW_TO}"
    if os.environ.get("CI") == "true":
        pytest.fail(said)
    pytest.skip(said)
