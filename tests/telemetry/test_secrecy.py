"""What leaves the host of command lines and definitions: never the secret in them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.records import decode, encode
from models.records.facts import BootIdentity, Observation
from producers.sources.docker.identity import boot_of
from producers.sources.docker.secrecy import LONGEST, Secrecy

SECRECY = Secrecy(b"a key of tests..")
LINES = """\
AWS_SECRET_ACCESS_KEY=hunter2 aws s3 ls
PGPASSWORD=hunter2 psql -h db
app --token hunter2
app --db-password=hunter2
java -Djavax.net.ssl.keyStorePassword=hunter2 -jar a
curl -H 'Authorization: Bearer hunter2' x
curl -H "X-Api-Key: hunter2" x
curl -u bob:hunter2 x
curl -d '{"password": "hunter2"}' x
wget http://x/?token=hunter2&a=1
git clone https://bob:hunter2@host/repository
psql 'host=db password=hunter2'
mysqldump -u root -phunter2
mysql -e "CREATE USER a IDENTIFIED BY 'hunter2'"
redis-cli -h r -a hunter2 ping
sshpass -p hunter2 ssh x
mongosh -u a -p hunter2
docker login -u bob -p hunter2 registry
htpasswd -bB file bob hunter2
ldapsearch -D cn=admin -w hunter2
openssl rsa -passin pass:hunter2
echo 'root:hunter2' | chpasswd
vault login hunter2
zip -P hunter2 a b
ssh-keygen -t rsa -N hunter2""".splitlines()


@pytest.mark.parametrize("line", LINES)
def test_a_secret_on_a_command_line_is_hidden_and_the_rest_is_told(line: str) -> None:
    """Whoever reads the topic must not learn what an operator typed, but what they did."""
    told = SECRECY.scrubbed(line)
    assert "hunter2" not in told
    assert "<hidden:" in told
    assert told.split()[0].partition("=")[0] == line.split(maxsplit=1)[0].partition("=")[0]


@pytest.mark.parametrize(
    "line",
    ["sh -c 'ls -la /var/log/nginx'", "nginx -g 'daemon off;'", "python -m http.server 8080",
     "/usr/share/java/kafka-clients/bin/start --port 80 --author me", "kubectl get pods -n shop"],
)  # fmt: skip  # lines of commands
def test_a_line_without_a_secret_is_told_as_it_is(line: str) -> None:
    """What is hidden can't be understood by whoever is on call."""
    assert SECRECY.scrubbed(line) == line


@given(st.text(max_size=200))
def test_whatever_is_typed_becomes_text_that_can_be_sent(line: str) -> None:
    """A line that no record takes would cost the frame that it is in."""
    told = SECRECY.scrubbed(line)
    assert told.isprintable()
    assert 0 < len(told) <= LONGEST


@pytest.mark.parametrize("part", ["mysql ", "a.", "secret", "x-", "root:a "])
def test_endless_lines_are_searched_no_further_than_they_are_told(part: str) -> None:
    """A second spent on each exec would hide the next ones from us."""
    begun_s = time.thread_time()
    told = SECRECY.scrubbed(part * 500_000 + "hunter2")
    assert time.thread_time() - begun_s < 5.0, "without the bound it takes hours"
    assert "hunter2" not in told


def inspected(**parts: Any) -> dict[str, Any]:
    """What an engine says of a container, as far as it matters here."""
    config = {"Image": "shop/cart:1", "Cmd": ["run"], **parts.get("config", {})}
    return {"Image": "sha256:aa", "Config": config, "HostConfig": parts.get("host", {}),
            "Mounts": parts.get("mounts", [])}  # fmt: skip  # two lines


def size(boot: BootIdentity) -> int:
    observation = Observation("a" * 64, 1_790_000_000 * 10**9, boot)
    assert decode(Observation, encode(observation)) == observation
    return len(encode(observation))


def test_no_definition_is_too_large_for_a_message() -> None:
    """Otherwise one container's start would cost the whole host its frame."""
    many = [f"word-{number}-{'x' * 300}" for number in range(3_000)]
    before, after = (
        boot_of(
            inspected(
                config={"Cmd": [*many, last], "Entrypoint": many, "Env": [f"{w}=v" for w in many]},
                host={"SecurityOpt": ["seccomp=" + "{" * 200_000], "Devices": [
                    {"PathOnHost": one} for one in many]},
                mounts=[{"Destination": one, "Source": one} for one in many],
            ), SECRECY,
        ) for last in ("one", "two")
    )  # fmt: skip  # a definition, twice
    assert size(before) < 250_000
    assert before.command != after.command, "what is left out still shows when it changes"
    assert before.environment == after.environment


def test_a_seccomp_profile_is_told_by_what_stands_for_it() -> None:
    """The engine's clients send the whole file along."""
    profiles = [
        '{"defaultAction": "SCMP_ACT_ERRNO"}' * 99,
        '{"defaultAction": "SCMP_ACT_LOG"}' * 99,
    ]
    options = [
        boot_of(inspected(host={"SecurityOpt": [f"seccomp={one}"]}), SECRECY).security_options
        for one in profiles
    ]
    assert all(option.startswith("seccomp=<hidden:") for (option,) in options)
    assert options[0] != options[1]
    plain = boot_of(inspected(host={"SecurityOpt": ["no-new-privileges"]}), SECRECY)
    assert plain.security_options == ("no-new-privileges",)
