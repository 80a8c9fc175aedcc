"""The command as people and scripts call it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.cli import LISTED


def plimsoll(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if "PLIMSOLL_" not in name}
    return subprocess.run(
        (sys.executable, "-m", "streams", *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**kept, "COLUMNS": "120", **environment},
    )


def test_help_lists_every_command_in_its_panel() -> None:
    """It is the first thing that a newcomer reads."""
    said = plimsoll("--help").stdout

    for name, (panel, line) in LISTED.items():
        assert f" {name} " in said
        assert panel in said
        assert line[:40] in said


def test_the_commands_are_those_that_were_promised() -> None:
    assert set(LISTED) >= {
        "demo", "up", "collect", "gather", "worker", "govern", "respond", "topics", "alerts",
        "incident", "keys", "config", "archive", "query", "report",
    }  # fmt: skip  # one list


@pytest.mark.parametrize("arguments", [("replay",), ("models", "promote")])
def test_paragraphs_of_help_flow_at_any_width(arguments: tuple[str, ...]) -> None:
    """Lines that break where the source does leave single words behind on most terminals."""
    lines = plimsoll(*arguments, "--help", COLUMNS="80").stdout.split("╭")[0].splitlines()
    text = [line.rstrip() for line in lines if line.strip()][1:]  # without the usage

    short = [a for a, b in itertools.pairwise(text) if len(a) + len(b.split()[0]) < 78]
    assert [line for line in short if not line.endswith(".")] == []


def test_listing_the_commands_loads_none_of_them() -> None:
    """A help page that takes seconds is not read."""
    program = (
        "import sys\nfrom streams.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'faust', 'sklearn', 'confluent_kafka', 'docker', 'duckdb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-command",), "no-such-command"),
        (("topics", "create", "--partitions", "0"), "--partitions"),
        (("up", "--parts", "collect,nonsense"), "there is no nonsense"),
        (("--config", "/nowhere.toml", "config", "check"), "/nowhere.toml"),
        (("--log-level", "loud", "version"), "--log-level"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_exits_with_2(
    arguments: tuple[str, ...], said: str
) -> None:
    """Scripts tell a wrong call from a failure by the code."""
    done = plimsoll(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_fails_is_one_line_that_says_where_and_what_to_do() -> None:
    """The person on call reads it at night."""
    done = plimsoll("topics", "list", PLIMSOLL_KAFKA__BOOTSTRAP="127.0.0.1:1")

    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "kafka.bootstrap" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_with_json_a_failure_is_a_document_too(tmp_path: Path) -> None:
    """What parses the answer must not meet prose."""
    done = plimsoll("keys", "revoke", "nobody-1", "--dir", str(tmp_path), "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "ConfigurationError"
    assert done.stderr == ""


def test_every_fault_of_the_settings_is_told_in_one_go(tmp_path: Path) -> None:
    """Mending one a restart takes an evening."""
    file = tmp_path / "plimsoll.toml"
    file.write_text('scope = "a/b"\n[gather]\ntick_s = -1\n')

    done = plimsoll("config", "check", PLIMSOLL_CONFIG=str(file), PLIMSOLL_GATHER__TICKS="2")

    assert done.returncode == 2
    for name in ("scope = 'a/b'", "gather.tick_s = -1", "gather.ticks = '2'", "3 settings"):
        assert name in done.stderr


def test_a_misspelt_table_is_a_fault(tmp_path: Path) -> None:
    """Else the default would hold in silence."""
    file = tmp_path / "plimsoll.toml"
    file.write_text('[governer]\nmode = "enforce"\n')

    done = plimsoll("config", "check", PLIMSOLL_CONFIG=str(file))

    assert done.returncode == 2
    assert "governer" in done.stderr


def test_config_show_says_where_from_and_hides_secrets(tmp_path: Path) -> None:
    """It is pasted into tickets."""
    file = tmp_path / "plimsoll.toml"
    file.write_text('[kafka]\nusername = "judge"\n')

    shown = json.loads(
        plimsoll(
            "config", "show", "--json",
            PLIMSOLL_CONFIG=str(file),
            PLIMSOLL_KAFKA__PASSWORD="hunter2",
            PLIMSOLL_WORKER__STUCK_S="99",
        ).stdout
    )  # fmt: skip  # flags in one line

    assert shown["kafka.username"] == {"value": "judge", "origin": f"file {file}"}
    assert shown["worker.stuck_s"] == {
        "value": 99.0,
        "origin": "environment PLIMSOLL_WORKER__STUCK_S",
    }
    assert shown["worker.commit_interval_s"]["origin"] == "default"
    assert shown["kafka.password"]["value"] == "***"
    assert "hunter2" not in json.dumps(shown)


def test_a_secret_is_not_shown_in_an_error_either() -> None:
    done = plimsoll(
        "config", "check", PLIMSOLL_KAFKA__PASSWORD="hunter2", PLIMSOLL_KAFKA__PASSWORD_FILE="/x"
    )

    assert done.returncode == 2
    assert "keep one" in done.stderr
    assert "hunter2" not in done.stderr
