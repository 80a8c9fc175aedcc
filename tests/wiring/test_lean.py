"""What runs on every host, as the real processes: how they begin, and what they hold then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.settings import Kafka
from producers.settings import load as load_producers
from streams.lean import handed, taken
from streams.settings import load as load_streams

NOBODY = "127.0.0.1:9"
BEGINNING = {"typer", "pydantic", "pydantic_core", "pydantic_settings", "rich"}
OTHERS = {"faust", "sklearn", "scipy", "pyarrow", "duckdb", "jinja2"}
ACTING = {"numpy", "docker", "requests", "cryptography", "pyroute2"}
"""What a responder needs for an order: 30 MB, and most hosts never see one."""

TELLS = """\
import atexit, json, os, sys
def tell():
    if os.environ.get("TELLS") and "lean" in sys.argv[0]:
        with open(os.environ["TELLS"], "w") as file:
            json.dump({"pid": os.getpid(), "modules": sorted(sys.modules)}, file)
atexit.register(tell)
"""


def begun(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    (directory / "sitecustomize.py").write_text(TELLS)
    settings = {
        "PYTHONPATH": str(directory), "TELLS": str(directory / "told.json"),
        "PLIMSOLL_KAFKA__BOOTSTRAP": NOBODY, "PLIMSOLL_DATA_DIR": str(directory),
    }  # fmt: skip  # by subject
    return subprocess.Popen(
        (sys.executable, "-m", "streams", *arguments),
        env=os.environ | settings, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip  # the call in two lines


def held(directory: Path, process: subprocess.Popen[str]) -> set[str]:
    """The packages that it had loaded when it ended, in the process that was started."""
    told = json.loads((directory / "told.json").read_text())
    assert told["pid"] == process.pid  # whoever supervises it knows it by that
    return {name.partition(".")[0] for name in told["modules"]}


def test_a_collector_holds_nothing_of_what_it_took_to_begin(tmp_path: Path) -> None:
    """It costs every host its memory: with typer, pydantic and rich it was a third more."""
    with begun(tmp_path, "collect", "--source", "simulated", "--once") as process:
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert not held(tmp_path, process) & (BEGINNING | OTHERS | {"pyroute2"})


def test_a_responder_without_an_order_holds_nothing_that_it_would_act_with(tmp_path: Path) -> None:
    """Most hosts never isolate anything."""
    with begun(tmp_path, "respond", "--host", "a" * 32) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "kafka unreachable" in line:  # it is up, and looks for orders
                process.send_signal(signal.SIGTERM)
                break
        process.stderr.read()
    assert process.returncode == 0, said
    assert not held(tmp_path, process) & (BEGINNING | OTHERS | ACTING)


def test_the_docker_source_brings_no_heavy_library() -> None:
    program = (
        "import sys, producers.collector, producers.sources.docker.source\n"
        f"heavy = {BEGINNING | OTHERS} & set(sys.modules)\nassert not heavy - {{'rich'}}, heavy"
    )
    subprocess.run((sys.executable, "-c", program), check=True)


def test_a_fault_found_late_ends_as_any_other(tmp_path: Path) -> None:
    """One line that says what to do, and exit code 2: no traceback of the second beginning."""
    with begun(tmp_path, "respond", "--platform", "abacus", "--host", "a" * 32) as process:
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 2
    assert said.startswith("plimsoll: responder platform 'abacus' is not known")
    assert "Traceback" not in said


def test_nothing_is_imported_from_where_it_is_called(tmp_path: Path) -> None:
    """It runs as root, and anybody may write to /tmp."""
    (tmp_path / "structlog.py").write_text("raise SystemExit('hijacked')")
    done = subprocess.run(
        (Path(sys.executable).with_name("plimsoll"), "respond", "--platform", "abacus"),
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PLIMSOLL_DATA_DIR": str(tmp_path), "PLIMSOLL_RESPONDER__HOST": "h"},
    )  # fmt: skip  # by subject
    assert done.stderr.startswith("plimsoll: responder platform 'abacus' is not known")


KAFKA: dict[str, Any] = {
    "bootstrap": "kafka:9093", "security_protocol": "sasl_ssl", "username": "plimsoll",
    "password": "a secret", "ca_file": Path("/etc/ca.pem"),
}  # fmt: skip  # by subject


@pytest.mark.parametrize("load", [load_producers, load_streams])
def test_settings_arrive_as_they_were_checked(load: Any, tmp_path: Path) -> None:
    """What they are made of does not arrive with them; every value does."""
    settings = load(data_dir=tmp_path, kafka=KAFKA)
    arrived = taken(handed(settings))

    def same(one: Any, other: Any) -> None:
        if isinstance(other, SimpleNamespace):
            assert vars(one).keys() == vars(other).keys()
            for name, value in vars(one).items():
                same(value, getattr(other, name))
        else:
            assert one == other

    assert isinstance(arrived, SimpleNamespace)
    same(settings, arrived)
    assert arrived.kafka == Kafka(**KAFKA)
    assert arrived.kafka.librdkafka()["sasl.password"] == "a secret"
