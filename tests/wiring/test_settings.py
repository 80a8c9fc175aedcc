"""Settings: which source wins, and what both sides share."""

from __future__ import annotations

from pathlib import Path

import pytest

import producers.settings
import streams.settings
from models.errors import ConfigurationError
from models.settings import Kafka


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLIMSOLL_CONFIG", "PLIMSOLL_KAFKA__BOOTSTRAP", "PLIMSOLL_GATHER__TICK_S"):
        monkeypatch.delenv(name, raising=False)


def test_flags_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each nearer to the person who typed it; a table is merged, not replaced."""
    file = tmp_path / "plimsoll.toml"
    file.write_text("[gather]\ntick_s = 2\nbatch_wait_ms = 10\nsilence_s = 20\n")
    monkeypatch.setenv("PLIMSOLL_CONFIG", str(file))
    monkeypatch.setenv("PLIMSOLL_GATHER__TICK_S", "3")
    monkeypatch.setenv("PLIMSOLL_GATHER__SILENCE_S", "30")

    gather = producers.settings.load(gather={"silence_s": 40.0, "group": None}).gather

    assert (gather.silence_s, gather.tick_s, gather.batch_wait_ms) == (40.0, 3.0, 10)
    assert gather.batch_samples == 1000


def test_both_sides_read_one_file_and_know_each_other_s_tables() -> None:
    """A name that neither knows is a fault; one that the other knows is none."""
    ours, theirs = streams.settings.Settings, producers.settings.Settings

    assert set(theirs.model_fields) - set(ours.model_fields) == set(streams.settings.ELSEWHERE)
    assert set(ours.model_fields) - set(theirs.model_fields) == set(producers.settings.ELSEWHERE)


@pytest.mark.parametrize("name", ["scope", "topic_prefix", "keys_dir", "kafka", "data_dir"])
def test_what_both_sides_set_is_the_same_on_both(name: str) -> None:
    """A collector under one prefix and a judge under another would never meet."""
    left = streams.settings.Settings.model_fields[name]
    right = producers.settings.Settings.model_fields[name]

    assert (left.annotation, left.description) == (right.annotation, right.description)
    assert getattr(streams.settings.load(), name) == getattr(producers.settings.load(), name)


def test_files_of_ours_follow_the_data_directory(tmp_path: Path) -> None:
    """One setting moves all of them."""
    settings = streams.settings.load(data_dir=tmp_path)

    for place in (settings.keys_dir, settings.models_dir, settings.evidence_dir):
        assert place.parent == tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bootstrap": "kafka"}, "host:port"),
        ({"security_protocol": "sasl_ssl"}, "needs a username"),
        ({"security_protocol": "sasl_ssl", "username": "u"}, "needs a password"),
        ({"certificate_file": "/x"}, "go together"),
        ({"security_protocol": "tls"}, "sasl_ssl"),
    ],
)
def test_a_connection_that_cannot_work_is_refused_at_the_start(
    given: dict[str, str], said: str
) -> None:
    """Not by a timeout, a minute later, in another process."""
    with pytest.raises(ConfigurationError, match=said):
        streams.settings.load(kafka=given)


def test_a_password_comes_from_its_file_and_never_shows(tmp_path: Path) -> None:
    """Docker and Kubernetes mount secrets as files."""
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    kafka = Kafka(
        security_protocol="sasl_ssl", username="judge", password_file=secret, ca_file=Path("/ca")
    )

    assert kafka.librdkafka()["sasl.password"] == "hunter2"
    assert kafka.librdkafka()["ssl.ca.location"] == "/ca"
    assert "hunter2" not in repr(Kafka(password="hunter2"))


@pytest.mark.parametrize("content", [None, b"\xff\xfehunter2"])
def test_a_password_that_cannot_be_read_names_its_file(
    tmp_path: Path, content: bytes | None
) -> None:
    """Every command that reaches Kafka ended with a traceback; none of them shows the secret."""
    secret = tmp_path / "password"
    if content is not None:
        secret.write_bytes(content)
    kafka = Kafka(security_protocol="sasl_ssl", username="judge", password_file=secret)

    with pytest.raises(ConfigurationError, match=f"{secret}.*correct kafka.password_file") as told:
        kafka.librdkafka()
    assert "hunter2" not in str(told.value)


def test_a_collector_cannot_frame_faster_than_it_samples() -> None:
    """Such a frame would be empty."""
    with pytest.raises(ConfigurationError, match="frame_interval_s is 1"):
        producers.settings.load(collect={"sample_period_s": 5.0, "frame_interval_s": 1.0})
