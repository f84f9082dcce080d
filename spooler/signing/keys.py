"""Private keys: made, read, written and rotated.

jwcrypto makes and prints the keys; this module checks what they are for and keeps the files. A key
file is a private JWK (RFC 7517, RFC 8037) as JSON, or the text that sqooler's users have in
`PRIVATE_JWK_STR`. It is refused when anybody but its owner can read it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwcrypto.jwk import JWK

from spooler.durable import Disk
from spooler.errors import KeyNotWritten, KeyRefused
from spooler.signing.dotenv import DOTENV, in_dotenv
from spooler.signing.jws import ALGORITHMS, b64decode, compact, key_half

_KID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_LARGEST_KEY_FILE = 65_536
_OWNER_ONLY = 0o600


def check_kid(kid: str) -> str:
    """`kid` when it is a plain file name, as storages use it; else ValueError."""
    if not _KID.fullmatch(kid):
        raise ValueError(
            f"the kid {kid!r} is not a plain name: use 1 to 128 of A-Z a-z 0-9 . _ - and no dot "
            "in front"
        )
    return kid


def thumbprint(x: str) -> str:
    """Return the RFC 7638 thumbprint of the public Ed25519 key with this `x` (base64url)."""
    return str(JWK(kty="OKP", crv="Ed25519", x=x).thumbprint())


class PrivateKey:
    """One Ed25519 private key with its name; a Signer."""

    def __init__(self, seed: bytes, kid: str | None = None) -> None:
        """Take the 32 secret bytes; ValueError when they are not 32 or `kid` is no plain name."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._jwk = JWK.from_pyca(self._key)
        self.kid = check_kid(self._jwk.thumbprint() if kid is None else kid)
        self._jwk.update(kid=self.kid, alg="EdDSA", use="sig")
        self._header = json.dumps({"alg": "EdDSA", "kid": self.kid}, separators=(",", ":")).encode(
            "ascii"
        )

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def jws(self, payload: bytes) -> str:
        return compact(self._header, payload, self._key.sign)

    def public(self) -> dict[str, str]:
        return dict(self._jwk.export_public(as_dict=True))

    def private_jwk(self) -> dict[str, str]:
        """Return the private JWK. Never log it, never show it."""
        return dict(self._jwk.export_private(as_dict=True))

    def __repr__(self) -> str:
        return f"PrivateKey(kid={self.kid!r})"


def generate(kid: str | None = None) -> PrivateKey:
    """Make a new key; KeyRefused for an unusable `kid`."""
    made = JWK.generate(kty="OKP", crv="Ed25519")
    try:
        return PrivateKey(b64decode(made["d"]), kid)
    except ValueError as error:
        raise KeyRefused(str(error)) from None


def from_jwk(document: Mapping[str, Any], where: str) -> PrivateKey:
    """Return the key of a private JWK; KeyRefused, naming `where`, when it is not a usable one."""
    if document.get("kty") != "OKP" or document.get("crv") != "Ed25519":
        raise KeyRefused(
            f"{where}: not an Ed25519 key (its kty would be OKP, its crv Ed25519); make one with "
            "`spooler keys generate`"
        )
    if "d" not in document or document["d"] is None:
        raise KeyRefused(f"{where}: this is a public key; give the private one, which has a 'd'")
    _check_purpose(document, where)
    kid = document.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeyRefused(f"{where}: kid must be text")
    if (d := key_half(document, "d")) is None:
        raise KeyRefused(f"{where}: d is not 32 bytes in base64url; restore the key")
    try:
        key = PrivateKey(b64decode(d), kid)
    except ValueError as error:
        raise KeyRefused(f"{where}: {error}") from None
    if key_half(document, "x") != key.public()["x"]:
        raise KeyRefused(f"{where}: x is not the public half of d; restore the key from a backup")
    return key


def _check_purpose(document: Mapping[str, Any], where: str) -> None:
    alg = document.get("alg", "EdDSA")
    if alg not in ALGORITHMS:
        raise KeyRefused(f"{where}: the key is for alg {alg!r}; only EdDSA is supported")
    # sqooler writes the operation as plain text, RFC 7517 asks for a list.
    operations = document.get("key_ops", "sign")
    if "sign" not in ([operations] if isinstance(operations, str) else operations or []):
        raise KeyRefused(f"{where}: the key is not for signing (key_ops); give the private key")
    if document.get("use", "sig") != "sig":
        raise KeyRefused(f"{where}: the key is not for signatures (use must be 'sig')")


def from_sqooler_text(text: str, where: str = "PRIVATE_JWK_STR") -> PrivateKey:
    """Return the key of sqooler's `PRIVATE_JWK_STR`: base64url of its JWK JSON, padded or not."""
    document = _object(text.encode("utf-8"))
    if document is None:
        raise KeyRefused(f"{where}: not the base64url text of a JWK; copy the whole text again")
    return from_jwk(document, where)


def load_file(path: Path) -> PrivateKey:
    """Return the key in a JWK file, in a file with sqooler's text, in a `.env`, or in a credential.

    KeyRefused when it is missing, unreadable, readable by others, or no usable private key.
    """
    content = _read_private(path)
    if path.name == DOTENV and (text := in_dotenv(content)) is not None:
        return from_sqooler_text(text, f"{path}: PRIVATE_JWK_STR")
    document = _object(content)
    if document is None:
        raise KeyRefused(
            f"{path}: not a key file (a JWK as JSON); restore it from a backup or make one with "
            "`spooler keys generate`"
        )
    return from_jwk(document, str(path))


def _object(content: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `content` is, or is the base64url text of; else None."""
    try:
        plain = content.lstrip().startswith(b"{")
        document = json.loads(content if plain else b64decode(b"".join(content.split())))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _read_private(path: Path) -> bytes:
    """The bytes of a file that nobody else can read, judged on the file that is then read."""
    try:
        # O_NONBLOCK: a pipe in the place of the file must not hang the start.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyRefused(
            f"{path}: key file not found; make one with `spooler keys generate`"
        ) from None
    except OSError as error:
        raise KeyRefused(
            f"{path}: the key file cannot be read ({error.strerror}); give the user that runs "
            "spooler access"
        ) from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise KeyRefused(f"{path}: not a regular file; name the key file itself")
        if _others_can_read(handle, facts.st_mode):
            raise KeyRefused(
                f"{path}: the key can be read by other users; run `chmod 600 {path}` (a container: "
                "mount the secret with mode 0400, or give the key as PRIVATE_JWK_STR or as a "
                "systemd credential), and make a new key if others may have seen it"
            )
        content = os.read(handle, _LARGEST_KEY_FILE + 1)
    finally:
        os.close(handle)
    if len(content) > _LARGEST_KEY_FILE:
        raise KeyRefused(f"{path}: too large for a key file; name the right file")
    return content


def _others_can_read(handle: int, mode: int) -> bool:
    """Return whether anybody but the owner, root and this user may read or change the file.

    systemd gives a service its credentials by an access control list, whose mask then stands
    where the group's permissions usually stand, so the list itself is looked at.
    """
    if not mode & 0o066:
        return False
    try:
        acl = os.getxattr(handle, "system.posix_acl_access")
    except OSError:
        return True
    owner, user, mask = 0x01, 0x02, 0x10
    for tag, permissions, who in struct.iter_unpack("<HHI", acl[4:]):
        if tag in {owner, mask} or not permissions & 0o6:
            continue
        if tag == user and who in {0, os.geteuid()}:
            continue
        return True
    return False


def write_file(key: PrivateKey, path: Path) -> None:
    """Write a new key file, 0600 from its first moment; KeyNotWritten when something is there."""
    _publish_new(path, _file_content(key))


def _file_content(key: PrivateKey) -> bytes:
    return (json.dumps(key.private_jwk(), indent=2) + "\n").encode("ascii")


def _publish_new(path: Path, content: bytes) -> None:
    try:
        Disk().publish_new(path.absolute(), content, mark=_mark(), mode=_OWNER_ONLY)
    except FileExistsError:
        raise KeyNotWritten(
            f"{path}: it already exists, and keys are never overwritten; choose another "
            "name or use `spooler keys rotate`"
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from None


def _mark() -> str:
    return os.urandom(6).hex()


def _unwritable(path: Path, error: OSError) -> KeyNotWritten:
    return KeyNotWritten(
        f"{path}: the key cannot be written ({error.strerror}); choose another place"
    )


@dataclass(frozen=True, slots=True)
class Rotation:
    """A finished rotation: the old key, the file that keeps it, and the key now in its place."""

    old: PrivateKey
    kept: Path
    new: PrivateKey


def rotate(path: Path, kid: str | None = None) -> Rotation:
    """Put a new key at `path`, the old one kept beside it as `<name>.<kid>.old`.

    Stopped at any point, `path` holds a whole key, and the old key is never lost; a repeat
    finishes the work.
    """
    path = path.resolve()  # a rename would replace a link, not the file that it names
    if path.name == DOTENV:
        raise KeyRefused(
            f"{path}: it may contain more than the key; make a key file with `spooler keys "
            "generate keys/backend.jwk` and set key in [signing]"
        )
    old = load_file(path)
    new = generate(kid)
    if new.kid == old.kid:
        raise KeyRefused(f"{path}: the key is already called {kid!r}; choose another kid")
    kept = path.with_name(f"{path.name}.{old.kid}.old")
    try:
        _publish_new(kept, _file_content(old))
    except KeyRefused:
        # A rotation that was stopped half way has left it; the same key may stay.
        if not kept.exists() or load_file(kept).private_jwk() != old.private_jwk():
            raise
    try:
        Disk().publish(path, _file_content(new), mark=_mark(), mode=_OWNER_ONLY)
    except OSError as error:
        raise _unwritable(path, error) from None
    return Rotation(old, kept, new)


def retired(path: Path) -> list[PrivateKey]:
    """Return the keys that `rotate` has kept beside `path`."""
    path = path.resolve()
    beside = sorted(path.parent.glob(f"{_glob_safe(path.name)}.*.old"))
    return [load_file(kept) for kept in beside]


def _glob_safe(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
