"""Keys, and whose word counts."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import ConfigurationError, UntrustedFile, UntrustedMessage
from models.records.signed import Signed
from streams import keys
from streams.keys import Role, Signer, Trust, TrustFile

NOW_NS = 1_790_000_000 * 10**9
DAY_S = 86_400.0
PAYLOAD = b'{"v":1,"order":"o-1"}'


class Hands:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Hands:
    return Hands()


def test_what_a_trusted_key_signed_comes_back_byte_for_byte(tmp_path: Path, clock: Hands) -> None:
    """Parsing before verifying would run hostile bytes through a parser."""
    keys.create(tmp_path, "governor", Role.GOVERNOR, NOW_NS)

    signed = Signer.load(tmp_path, "governor").sign(PAYLOAD)

    assert TrustFile(tmp_path, clock).verify(signed, Role.GOVERNOR) == PAYLOAD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: replace(s, payload=s.payload + b" "), "signature"),
        (lambda s: replace(s, signature=bytes(64)), "signature"),
        (lambda s: replace(s, signature=b""), "signature"),
        (lambda s: replace(s, key="governor-000000000000"), "not in trusted.json"),
    ],
)
def test_one_changed_part_and_nothing_is_believed(
    tmp_path: Path, clock: Hands, change: object, said: str
) -> None:
    """An order is a remote control: it holds as a whole or not at all."""
    keys.create(tmp_path, "governor", Role.GOVERNOR, NOW_NS)
    signed = Signer.load(tmp_path, "governor").sign(PAYLOAD)
    forged = change(signed)  # type: ignore[operator]  # a lambda of the table above

    with pytest.raises(UntrustedMessage, match=said):
        TrustFile(tmp_path, clock).verify(forged, Role.GOVERNOR)


def test_an_operator_cannot_sign_orders(tmp_path: Path, clock: Hands) -> None:
    """Orders pass the guards of policy first; only the governor's key proves that."""
    keys.create(tmp_path, "alice", Role.OPERATOR, NOW_NS)
    signed = Signer.load(tmp_path, "alice").sign(PAYLOAD)

    with pytest.raises(UntrustedMessage, match="role operator"):
        TrustFile(tmp_path, clock).verify(signed, Role.GOVERNOR)


def test_a_key_counts_for_its_time_only(tmp_path: Path, clock: Hands) -> None:
    """A laptop that is lost must not order isolations for ever."""
    keys.create(tmp_path, "alice", Role.OPERATOR, NOW_NS, valid_s=DAY_S)
    trust, signed = TrustFile(tmp_path, clock), Signer.load(tmp_path, "alice").sign(PAYLOAD)

    assert trust.verify(signed, Role.OPERATOR) == PAYLOAD
    clock.now_ns += int(DAY_S * 1e9)
    with pytest.raises(UntrustedMessage, match="does not count at 20"):
        trust.verify(signed, Role.OPERATOR)
    assert trust.verify(signed, Role.OPERATOR, at_ns=NOW_NS) == PAYLOAD


def test_during_a_rotation_old_and_new_count_then_only_the_new(
    tmp_path: Path, clock: Hands
) -> None:
    """Orders under way must not fail because a key was changed on schedule."""
    keys.create(tmp_path, "governor", Role.GOVERNOR, NOW_NS)
    trust, old = TrustFile(tmp_path, clock), Signer.load(tmp_path, "governor")

    keys.rotate(tmp_path, "governor", NOW_NS, overlap_s=60.0)

    new = Signer.load(tmp_path, "governor")
    assert new.key != old.key
    for signer in (old, new):  # without a restart
        assert trust.verify(signer.sign(PAYLOAD), Role.GOVERNOR) == PAYLOAD
    clock.now_ns += 60 * 10**9
    with pytest.raises(UntrustedMessage):
        trust.verify(old.sign(PAYLOAD), Role.GOVERNOR)
    assert trust.verify(new.sign(PAYLOAD), Role.GOVERNOR) == PAYLOAD


def test_a_revoked_key_counts_for_nothing_at_once(tmp_path: Path, clock: Hands) -> None:
    """Revoking is what one does in a hurry."""
    made = keys.create(tmp_path, "alice", Role.OPERATOR, NOW_NS)
    trust, signed = TrustFile(tmp_path, clock), Signer.load(tmp_path, "alice").sign(PAYLOAD)

    keys.revoke(tmp_path, made.key, NOW_NS)

    with pytest.raises(UntrustedMessage):
        trust.verify(signed, Role.OPERATOR)


def test_private_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """A key that others can read signs nothing."""
    keys.ensure(tmp_path / "keys", NOW_NS)

    for name in ("governor.key", "operator.key", "deployment.key"):
        assert stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600
    (tmp_path / "keys/governor.key").chmod(0o640)
    with pytest.raises(UntrustedFile, match="chmod 600"):
        Signer.load(tmp_path / "keys", "governor")


def test_ensuring_keys_twice_makes_them_once(tmp_path: Path) -> None:
    """A second start must not lock out the first one's hosts."""
    made = keys.ensure(tmp_path, NOW_NS)
    assert [name.partition("-")[0] for name in made] == [
        "governor",
        "operator",
        "trainer",
        "deployment.key",
    ]
    before = (tmp_path / "governor.key").read_bytes()

    assert keys.ensure(tmp_path, NOW_NS) == ()
    assert (tmp_path / "governor.key").read_bytes() == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"v":2,"keys":[]}',
        b'{"v":1,"keys":[{}]}',
        b'{"v":1,"keys":7}',
        b'{"v":1,"keys":[{"key":"a-0","name":"a","role":"governor","public":"00"}]}',
    ],
)
def test_a_damaged_trust_file_is_refused_with_its_name(tmp_path: Path, body: bytes) -> None:
    """Reading half a list of keys would drop a revocation in silence."""
    (tmp_path / "trusted.json").write_bytes(body)

    with pytest.raises(UntrustedFile, match=r"trusted\.json"):
        keys.read_trusted(tmp_path)


def test_names_cannot_leave_the_directory(tmp_path: Path) -> None:
    """A key's name becomes a file's name."""
    for name in ("../etc", "", "a/b", "deployment"):
        with pytest.raises(ConfigurationError):
            keys.create(tmp_path, name, Role.OPERATOR, NOW_NS)


def test_nothing_is_trusted_where_nothing_was_set_up(clock: Hands) -> None:
    """An empty list of keys means nobody, not everybody."""
    with pytest.raises(UntrustedMessage):
        Trust((), clock).verify(Signed("governor-1", bytes(64), PAYLOAD), Role.GOVERNOR)


def test_a_trust_file_that_breaks_trusts_nobody(tmp_path: Path, clock: Hands) -> None:
    """Going on with the last good list could keep a revoked key alive."""
    keys.create(tmp_path, "governor", Role.GOVERNOR, NOW_NS)
    trust, signer = TrustFile(tmp_path, clock), Signer.load(tmp_path, "governor")
    (tmp_path / "trusted.json").write_bytes(b"{")

    for _ in range(2):
        with pytest.raises(UntrustedMessage, match="nobody is trusted"):
            trust.verify(signer.sign(PAYLOAD), Role.GOVERNOR)
