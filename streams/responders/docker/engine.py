"""The Docker SDK, as narrow as we need it, with errors in our words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from models.errors import ContainerGone, ContainerRuntimeError, RuntimeUnreachable

if TYPE_CHECKING:  # 7 MB, and few responders ever act: imported with the first question
    from docker.errors import APIError

Inspected = dict[str, Any]
"""What ``GET /containers/{id}/json`` says."""

STOP_GRACE_S: Final = 5
"""A container that ignores SIGTERM for this long is killed."""
LOG_LINES: Final = 2000


class Engine:
    """One engine behind a socket. It is asked for the first time when it is first needed,
    so that a responder starts (and ends what is due) while the engine is still away.

    Every method raises ContainerGone, RuntimeUnreachable or ContainerRuntimeError.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._client: Any = None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    # ---- looking --------------------------------------------------------------------------

    def inspect(self, subject: str) -> Inspected:
        found: Inspected = self._ask(lambda api: api.inspect_container(subject))
        return found

    def containers(self) -> list[dict[str, Any]]:
        """Every container, also those that do not run, in short."""
        found: list[dict[str, Any]] = self._ask(lambda api: api.containers(all=True))
        return found

    def labelled(self, label: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask(
            lambda api: api.containers(all=True, filters={"label": label})
        )
        return found

    def network(self, name: str) -> dict[str, Any] | None:
        """A network by name or id; None when there is none."""
        found: dict[str, Any] | None = self._ask_for(lambda api: api.inspect_network(name))
        return found

    def image_id(self, name: str) -> str:
        """The id that an image's name stands for now; empty when for none."""
        found = self._ask_for(lambda api: api.inspect_image(name))
        return "" if found is None else str(found["Id"])

    def top(self, subject: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(lambda api: api.top(subject))
        return found

    def differences(self, subject: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] | None = self._ask(lambda api: api.diff(subject))
        return found or []

    def logs(self, subject: str) -> bytes:
        """The last lines of both streams, with times."""
        found: bytes = self._ask(lambda api: api.logs(subject, timestamps=True, tail=LOG_LINES))
        return found

    # ---- acting ---------------------------------------------------------------------------

    def disconnect(self, subject: str, network: str) -> None:
        self._ask(lambda api: api.disconnect_container_from_network(subject, network, force=True))

    def connect(self, subject: str, network: str, **endpoint: Any) -> None:
        self._ask(lambda api: api.connect_container_to_network(subject, network, **endpoint))

    def pause(self, subject: str) -> None:
        self._ask(lambda api: api.pause(subject))

    def unpause(self, subject: str) -> None:
        self._ask(lambda api: api.unpause(subject))

    def stop(self, subject: str) -> None:
        self._ask(lambda api: api.stop(subject, timeout=STOP_GRACE_S))

    def start(self, subject: str) -> None:
        self._ask(lambda api: api.start(subject))

    def rename(self, subject: str, name: str) -> None:
        self._ask(lambda api: api.rename(subject, name))

    def remove(self, subject: str) -> None:
        self._ask(lambda api: api.remove_container(subject, force=True))

    def restart_policy(self, subject: str, policy: Mapping[str, Any]) -> None:
        self._ask(lambda api: api.update_container(subject, restart_policy=dict(policy)))

    def create(self, definition: Mapping[str, Any], name: str) -> str:
        """A container of exactly this definition (API form); its id."""
        made = self._ask(lambda api: api.create_container_from_config(dict(definition), name))
        return str(made["Id"])

    # ---- inside ---------------------------------------------------------------------------

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        import requests
        from docker.errors import APIError, DockerException

        try:
            return question(self._connected())
        except APIError as refusal:
            raise _renamed(refusal) from refusal
        except (requests.RequestException, DockerException, OSError) as silence:
            raise RuntimeUnreachable(
                f"Docker engine {self._address} did not answer ({silence}): look at dockerd"
            ) from silence

    def _ask_for(self, question: Callable[[Any], Any]) -> Any:
        """The same for what may be missing: None then."""
        from docker.errors import NotFound

        try:
            return self._ask(question)
        except ContainerRuntimeError as refusal:
            if isinstance(refusal.__cause__, NotFound):
                return None
            raise

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                import docker

                make: Any = docker.APIClient  # its types know whole seconds only
                self._client = make(self._address, version="auto", timeout=self._timeout_s)
            return self._client


def _renamed(refusal: APIError) -> ContainerRuntimeError:
    from docker.errors import NotFound

    said = str(refusal.explanation or refusal).strip()
    if isinstance(refusal, NotFound) and "No such container" in said:
        return ContainerGone(f"Docker: {said}")
    return ContainerRuntimeError(f"Docker: {said}")
