"""Who may say what: Ed25519 keys in files, and the list of those that we trust.

A directory holds one private key a name (``governor.key``, PEM, mode 0600) and
``trusted.json`` with the public keys, their roles and how long they count. Hosts that only
verify get a copy of ``trusted.json`` and nothing else. During a rotation two keys of one
name count at once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from models.errors import ConfigurationError, UntrustedFile, UntrustedMessage
from models.records.signed import Signed

if TYPE_CHECKING:  # 7 MB that a responder has no use for before its first order
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Clock = Callable[[], int]
"""Now, in nanoseconds UTC."""

TRUSTED_FILE: Final = "trusted.json"
DEPLOYMENT_KEY_FILE: Final = "deployment.key"
FORMAT: Final = 1
LONGEST_NAME: Final = 128
"""File systems take 255 bytes, of which a draft's name needs some."""
_PUBLIC_BYTES: Final = 32


class Role(StrEnum):
    GOVERNOR = "governor"  # signs orders and the heads of evidence
    OPERATOR = "operator"  # signs control words
    TRAINER = "trainer"  # signs the manifests of models
    VIEWER = "viewer"  # proves who looked; may order nothing


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that counts from ``from_ns`` until ``until_ns`` (0: without end)."""

    key: str
    name: str
    role: Role
    public: bytes
    from_ns: int
    until_ns: int = 0

    def counts_at(self, at_ns: int) -> bool:
        return self.from_ns <= at_ns and (not self.until_ns or at_ns < self.until_ns)


class Signer:
    """Signs with one private key; ``key`` is its id, as ``trusted.json`` has it."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.name = name
        self.public = private.public_key().public_bytes_raw()
        self.key = key_id(name, self.public)

    @classmethod
    def load(cls, directory: Path, name: str) -> Signer:
        """The signer of ``directory/NAME.key``.

        Raises: ConfigurationError when there is none, UntrustedFile when it is no such key
            or others may read it.
        """
        path = private_file(directory, name)
        try:
            mode, pem = path.stat().st_mode & 0o777, path.read_bytes()
        except OSError as problem:
            raise ConfigurationError(
                f"private key {path}: {problem.strerror}; make one with "
                f"`plimsoll keys create {name} --role ROLE`"
            ) from problem
        if mode & 0o077:
            raise UntrustedFile(f"{path} may be read by others (mode {mode:o}): chmod 600 {path}")
        return cls(name, _private_key(path, pem))

    def sign(self, payload: bytes) -> Signed:
        """An envelope with the signature over exactly these bytes."""
        return Signed(self.key, self._private.sign(payload), payload)


class Trust:
    """The keys that we trust, at the time that ``clock`` tells."""

    def __init__(self, keys: Iterable[TrustedKey], clock: Clock) -> None:
        self._keys = {key.key: key for key in keys}
        self._clock = clock

    def keys(self) -> tuple[TrustedKey, ...]:
        return tuple(self._keys.values())

    def verify(self, signed: Signed, role: str, at_ns: int | None = None) -> bytes:
        """The payload, once signature, role and validity hold.

        ``at_ns`` is when the key must have counted: now unless given. Replay and deadline
        are the caller's business: they are in the payload.

        Raises: UntrustedMessage, saying which of these does not hold.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        known = self.keys_by_id().get(signed.key)
        if known is None:
            raise UntrustedMessage(f"key {signed.key!r} is not in {TRUSTED_FILE}")
        if known.role != role:
            raise UntrustedMessage(f"key {signed.key!r} has the role {known.role}, needed: {role}")
        when_ns = self._clock() if at_ns is None else at_ns
        if not known.counts_at(when_ns):
            raise UntrustedMessage(f"key {signed.key!r} does not count at {_told(when_ns)}")
        try:
            Ed25519PublicKey.from_public_bytes(known.public).verify(
                signed.signature, signed.payload
            )
        except InvalidSignature as wrong:
            raise UntrustedMessage(
                f"the signature is not of key {signed.key!r} over these bytes"
            ) from wrong
        return signed.payload

    def keys_by_id(self) -> dict[str, TrustedKey]:
        return self._keys


class TrustFile(Trust):
    """The same from ``trusted.json``, read anew whenever the file changes, so that a
    rotation or a revocation needs no restart. A file that has become unreadable trusts
    nobody until it is mended.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._path = directory / TRUSTED_FILE
        self._stamp = self._stamp_now()
        super().__init__(read_trusted(directory), clock)

    def keys_by_id(self) -> dict[str, TrustedKey]:
        stamp = self._stamp_now()
        if stamp != self._stamp:
            try:
                self._keys = {key.key: key for key in read_trusted(self._path.parent)}
            except UntrustedFile as damaged:
                raise UntrustedMessage(f"nobody is trusted: {damaged}") from damaged
            self._stamp = stamp
        return self._keys

    def keys(self) -> tuple[TrustedKey, ...]:
        return tuple(self.keys_by_id().values())

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def signed_by(
    trust: Trust, signed: Signed, roles: Sequence[Role], at_ns: int | None = None
) -> tuple[bytes, str]:
    """The payload and the name of the key that signed it, once that key has one of these
    roles and counted at ``at_ns`` (now unless given).

    Raises: UntrustedMessage, saying what does not hold.
    """
    known = trust.keys_by_id().get(signed.key)
    if known is not None and known.role not in roles:
        needed = " or ".join(roles)
        raise UntrustedMessage(f"key {signed.key!r} has the role {known.role}, needed: {needed}")
    payload = trust.verify(signed, known.role if known else roles[0], at_ns)
    return payload, known.name if known else ""


def key_id(name: str, public: bytes) -> str:
    """The name, and enough of the key's hash to tell it from its successor."""
    return f"{name}-{hashlib.sha256(public).hexdigest()[:12]}"


def private_file(directory: Path, name: str) -> Path:
    return directory / f"{name}.key"


# ---- files --------------------------------------------------------------------------------


def create(directory: Path, name: str, role: Role, now_ns: int, valid_s: float = 0.0) -> TrustedKey:
    """A new key pair: the private part in ``NAME.key``, the public one in the trust file.

    ``valid_s`` 0 is without end. Raises: ConfigurationError when the name is taken.
    """
    _check_name(name)
    if private_file(directory, name).exists():
        raise ConfigurationError(
            f"{private_file(directory, name)} exists: `plimsoll keys rotate {name}` replaces it"
        )
    return _made(directory, name, role, now_ns, valid_s)


def rotate(directory: Path, name: str, now_ns: int, overlap_s: float) -> TrustedKey:
    """A successor for ``name``; the old key counts for ``overlap_s`` more, so that what is
    under way still holds, and its private part is gone from the disk.

    Raises: ConfigurationError when there is no such key, or it is not trusted.
    """
    old = Signer.load(directory, name)
    trusted = {key.key: key for key in read_trusted(directory)}
    if old.key not in trusted:
        raise ConfigurationError(
            f"{old.key} is not in {directory / TRUSTED_FILE}: nothing to follow"
        )
    until_ns = now_ns + int(overlap_s * 1e9)
    before = trusted[old.key]
    ends_ns = min(before.until_ns, until_ns) if before.until_ns else until_ns
    trusted[old.key] = replace(before, until_ns=ends_ns)
    _write_trusted(directory, trusted.values())
    return _made(directory, name, before.role, now_ns, 0.0)


def revoke(directory: Path, key: str, now_ns: int) -> TrustedKey:
    """From now on, this key counts for nothing. Raises: ConfigurationError when unknown."""
    trusted = {known.key: known for known in read_trusted(directory)}
    if key not in trusted:
        raise ConfigurationError(f"no key {key!r} in {directory / TRUSTED_FILE}")
    trusted[key] = replace(trusted[key], until_ns=now_ns)
    _write_trusted(directory, trusted.values())
    return trusted[key]


def ensure(directory: Path, now_ns: int) -> tuple[str, ...]:
    """What one machine needs to begin: a governor's key, an operator's, a trainer's, and the
    deployment's.

    Returns what was made; nothing that exists is touched.
    """
    made = [
        create(directory, role.value, role, now_ns).key
        for role in (Role.GOVERNOR, Role.OPERATOR, Role.TRAINER)
        if not private_file(directory, role.value).exists()
    ]
    if not (directory / DEPLOYMENT_KEY_FILE).exists():
        _write(directory / DEPLOYMENT_KEY_FILE, secrets.token_hex(32).encode() + b"\n", 0o600)
        made.append(DEPLOYMENT_KEY_FILE)
    return tuple(made)


def read_trusted(directory: Path) -> tuple[TrustedKey, ...]:
    """The keys of ``trusted.json``; none when there is no such file.

    Raises: UntrustedFile when it is damaged.
    """
    path = directory / TRUSTED_FILE
    try:
        return _listed(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise UntrustedFile(f"{path}: {problem!r}; restore it from where it was made") from problem


def _listed(body: dict[str, Any]) -> tuple[TrustedKey, ...]:
    if body["v"] != FORMAT:
        raise ValueError(f"format {body['v']}, this release reads {FORMAT}")
    return tuple(_trusted(item) for item in body["keys"])


def _trusted(item: dict[str, Any]) -> TrustedKey:
    public = bytes.fromhex(item["public"])
    if len(public) != _PUBLIC_BYTES or item["key"] != key_id(item["name"], public):
        raise ValueError(f"key {item['key']!r} does not fit its public part")
    from_ns, until_ns = item["from_ns"], item["until_ns"]
    if type(from_ns) is not int or type(until_ns) is not int:
        raise ValueError(f"key {item['key']!r}: times must be whole nanoseconds")
    return TrustedKey(item["key"], item["name"], Role(item["role"]), public, from_ns, until_ns)


def _made(directory: Path, name: str, role: Role, now_ns: int, valid_s: float) -> TrustedKey:
    from cryptography.hazmat.primitives import serialization as pems
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    until_ns = now_ns + int(valid_s * 1e9) if valid_s else 0
    signer = Signer(name, private)
    made = TrustedKey(signer.key, name, role, signer.public, now_ns, until_ns)
    form = (pems.Encoding.PEM, pems.PrivateFormat.PKCS8, pems.NoEncryption())
    pem = private.private_bytes(*form)
    # Trusted first: a key that is trusted and lost can be rotated, the reverse can't sign.
    _write_trusted(directory, (*read_trusted(directory), made))
    _write(private_file(directory, name), pem, 0o600)
    return made


def _write_trusted(directory: Path, keys: Iterable[TrustedKey]) -> None:
    items = [
        {
            "key": key.key,
            "name": key.name,
            "role": key.role.value,
            "public": key.public.hex(),
            "from_ns": key.from_ns,
            "until_ns": key.until_ns,
        }
        for key in keys
    ]
    body = orjson.dumps({"v": FORMAT, "keys": items}, option=orjson.OPT_INDENT_2)
    _write(directory / TRUSTED_FILE, body + b"\n", 0o644)


def _write(path: Path, body: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by more than ``mode`` says."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise


def _private_key(path: Path, pem: bytes) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise UntrustedFile(f"{path} is not a private key in PEM: restore it") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise UntrustedFile(f"{path} is not an Ed25519 key: make one with `plimsoll keys create`")
    return key


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise ConfigurationError(f"key name of {len(name)} characters: at most {LONGEST_NAME}")
    if not name or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise ConfigurationError(
            f"key name {name!r}: use letters, digits, dots, dashes and underscores"
        )
    if name == DEPLOYMENT_KEY_FILE.removesuffix(".key"):
        raise ConfigurationError(f"{name!r} is the name of the deployment's key: take another")


def _told(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="seconds")
