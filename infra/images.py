"""Tiny images, built FROM scratch with a static busybox: no registry is asked.

For tests and demonstrations. Each is a few MB and holds ``/bin/busybox`` with a link for
every applet in use; more files and another command can be given.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    import docker

APPLETS: Final = (
    "sh", "sleep", "nc", "httpd", "nslookup", "cat", "cp", "mv", "rm", "ls", "mkdir", "chmod",
    "touch", "dd", "head", "tail", "echo", "printf", "true", "false", "date", "id", "ps", "kill",
    "wc", "grep", "sed", "awk", "seq", "ln", "test", "[", "env", "usleep", "yes", "ip", "ping",
    "stat", "timeout", "md5sum", "sync", "tr", "cut", "find", "od", "uname", "hostname", "mkfifo",
)  # fmt: skip  # a list of words
HOW_TO: Final = "install a static busybox (Debian, Ubuntu: apt install busybox-static)"


class NoBusybox(RuntimeError):
    """There is no static busybox here; the message says how to get one."""


def busybox() -> bytes:
    """The static busybox of this machine. Raises: NoBusybox."""
    found = shutil.which("busybox")
    if found is None:
        raise NoBusybox(f"no busybox: {HOW_TO}")
    with open(found, "rb") as file:  # noqa: PTH123  # which() gave a string
        return file.read()


def build(
    client: docker.DockerClient,
    tag: str,
    *,
    command: Sequence[str] = ("/bin/sleep", "1000000"),
    files: Mapping[str, bytes] | None = None,
    labels: Mapping[str, str] | None = None,
    user: str = "",
) -> str:
    """Build an image and return its id; ``files`` (path → content) are executable.

    The same arguments make the same layer; a change of any makes another image id.
    Raises: NoBusybox; docker.errors.APIError when the engine won't.
    """
    image, _ = client.images.build(
        fileobj=_context(command, files or {}, user, labels or {}), custom_context=True,
        tag=tag, rm=True,
    )  # fmt: skip  # one argument a line reads worse
    assert image.id is not None, "built images have an id"
    return image.id


def _context(
    command: Sequence[str], files: Mapping[str, bytes], user: str, labels: Mapping[str, str]
) -> io.BytesIO:
    """A tar archive with everything the engine needs to build. Labels come first, so that
    what is left of a build that did not end bears them too.
    """
    lines = ["FROM scratch"]
    lines += [f"LABEL {_quoted(name)}={_quoted(value)}" for name, value in labels.items()]
    lines += ["ADD root.tar /", "ENV PATH=/bin"]
    if user:
        lines.append(f"USER {user}")
    lines.append(f"CMD {orjson.dumps(list(command)).decode()}")
    parts = {"Dockerfile": "\n".join(lines).encode(), "root.tar": _root(files)}
    return io.BytesIO(_tar(parts))


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _root(files: Mapping[str, bytes]) -> bytes:
    here = {"bin/busybox": busybox(), **{path.lstrip("/"): body for path, body in files.items()}}
    links = {f"bin/{applet}": "busybox" for applet in APPLETS}
    folders = ("tmp", "etc", "root", "var", "dev", "proc", "sys")
    return _tar({**here, "etc/passwd": b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"},
                links, folders)  # fmt: skip  # two lines


def _tar(
    files: Mapping[str, bytes], links: Mapping[str, str] | None = None, folders: Sequence[str] = ()
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for path, body in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(body), 0o755
            tar.addfile(entry, io.BytesIO(body))
        for path, target in (links or {}).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()
