"""Containers as others have them, beside the demonstration's: programs on a volume, what unpacks
itself, a job that runs now and then, helpers in somebody else's network or process namespace.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from infra.demo.containers import PORT, SIBLINGS, Troupe
from infra.images import build, busybox

JOB_AFTER_S: Final = 270
"""When the job runs for the first time: its lineage is learned by then."""
_FROM_VOLUME: Final = "while :; do /opt/app/busybox sleep 1; done"
_UNPACKS: Final = (
    "there=/tmp/_MEI$RANDOM$RANDOM; mkdir -p $there; cp /bin/busybox $there; "
    "while :; do $there/busybox sleep 2; done"
)
_JOB: Final = (
    f"sleep {JOB_AFTER_S}; while :; do /job/busybox md5sum /bin/busybox > /tmp/sum; "
    "mv /tmp/sum /tmp/sum.1; /job/busybox sleep 5; sleep 300; done"
)
_REPORTS: Final = f"while :; do echo up | nc -w 1 {{address}} {PORT}; sleep 2; done"
_LOOKS: Final = "ps; ls -l /proc/1/exe; sleep 8"


class Bystanders:
    """They bear the troupe's marks and name, and are removed with it. ``directory``: what is
    mounted into them.
    """

    def __init__(self, client: Any, troupe: Troupe, directory: Path, partner: str) -> None:
        self._client, self._troupe = client, troupe
        self.volume = directory
        self._reports = _REPORTS.format(address=partner)

    def settle(self) -> None:
        """Those that are there from the beginning."""
        self.put_on_volume(busybox())
        for image, files in (("volume", {}), ("unpacks", {}), ("job", {"/job/busybox": busybox()}),
                             ("sidecar", {}), ("debugger", {}), ("agent", {})):  # fmt: skip
            named = {**files, "/name": image.encode()}
            build(self._client, self._tag(image), files=named, labels=self._troupe.marks)
        for number in range(1, SIBLINGS + 1):
            self.start_from_volume(number)
            self.start_unpacking(number)
            self._run(f"job-{number}", "job", _JOB, network=self._troupe.network)

    def put_on_volume(self, program: bytes) -> None:
        """As releases do: in the place of the one before, at once."""
        self.volume.mkdir(exist_ok=True)
        fresh = self.volume / "fresh"
        fresh.write_bytes(program)
        fresh.chmod(0o755)
        fresh.replace(self.volume / "busybox")

    def start_from_volume(self, number: int) -> Any:
        mounted = {str(self.volume): {"bind": "/opt/app", "mode": "ro"}}
        return self._run(f"volume-{number}", "volume", _FROM_VOLUME, volumes=mounted,
                         network=self._troupe.network)  # fmt: skip  # two lines

    def start_unpacking(self, number: int) -> Any:
        return self._run(f"unpacks-{number}", "unpacks", _UNPACKS, network=self._troupe.network)

    def start_sidecar(self, whose: Any) -> Any:
        """In the network of another, which it reports for."""
        return self._run("sidecar", "sidecar", self._reports, network_mode=f"container:{whose.id}")

    def start_agent(self) -> Any:
        """In the host's network."""
        return self._run("agent", "agent", self._reports, network_mode="host")

    def debug(self, whose: Any) -> None:
        """As ``kubectl debug`` does: among the processes of another."""
        one = self._run("debugger", "debugger", _LOOKS, pid_mode=f"container:{whose.id}")
        one.wait()
        one.remove()

    def get(self, name: str) -> Any:
        return self._client.containers.get(f"{name}-{self._troupe.run}")

    def _run(self, name: str, image: str, command: str, **options: Any) -> Any:
        return self._client.containers.run(
            self._tag(image), ["/bin/sh", "-c", command], detach=True,
            name=f"{name}-{self._troupe.run}", labels=self._troupe.marks, **options,
        )  # fmt: skip  # one call, one thought

    def _tag(self, image: str) -> str:
        return f"{self._troupe.run}/{image}:1"
