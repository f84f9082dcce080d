"""Compact JWS (RFC 7515) with Ed25519 (RFC 8037), and nothing else.

jwcrypto does the work, with the algorithms pinned. One fast path bypasses it: `compact` builds the
token of every job itself, and the tests compare its bytes with jwcrypto's.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jwcrypto import jwk as jose_jwk
from jwcrypto import jws as jose_jws
from jwcrypto.common import JWException, base64url_decode, base64url_encode

from spooler.errors import KeyRefused, SignatureRefused
from spooler.model.json import unique

#: EdDSA is RFC 8037's name of the algorithm, Ed25519 is RFC 9864's.
ALGORITHMS = ("EdDSA", "Ed25519")

#: The length of either half of an Ed25519 key.
PUBLIC_BYTES = 32

_PARTS = 3
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")


def b64encode(raw: bytes) -> str:
    """Return `raw` as base64url without padding, the form of RFC 7515."""
    return str(base64url_encode(raw))


def b64decode(text: str | bytes) -> bytes:
    """Decode base64url text, with or without padding; ValueError for anything else.

    Stricter than jwcrypto alone, which skips foreign characters.
    """
    if isinstance(text, bytes):
        text = text.decode("ascii")
    bare = text.rstrip("=")
    if not _BASE64URL.fullmatch(text) or len(bare) % 4 == 1:
        raise ValueError("not base64url text")
    return bytes(base64url_decode(bare))


def key_half(document: Mapping[str, Any], name: str) -> str | None:
    """Return the `x` or `d` of an Ed25519 JWK, unpadded; None unless it has 32 bytes."""
    try:
        raw = b64decode(document[name])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return b64encode(raw) if len(raw) == PUBLIC_BYTES else None


def _bare(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def compact(header: bytes, payload: bytes, sign: Callable[[bytes], bytes]) -> str:
    """Return the compact JWS of `payload` under the JSON text `header`."""
    signed = b"%b.%b" % (_bare(header), _bare(payload))
    return (b"%b.%b" % (signed, _bare(sign(signed)))).decode("ascii")


def payload(token: str) -> bytes:
    """The payload of a compact JWS of our own making, unverified; ValueError when it is none."""
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise ValueError("not a compact JWS")
    return b64decode(parts[1])


class KeySet:
    """Public Ed25519 keys by kid (a JWKS of RFC 7517)."""

    def __init__(self, keys: Iterable[Mapping[str, Any]] = ()) -> None:
        self._keys: dict[str, jose_jwk.JWK] = {}
        for key in keys:
            self.add(key)

    def add(self, key: Mapping[str, Any]) -> None:
        """Add one public JWK; KeyRefused unless it is an Ed25519 key whose kid is not taken."""
        kid = key.get("kid")
        if not isinstance(kid, str) or not kid:
            raise KeyRefused("a public key has no kid; give it one")
        if key.get("kty") != "OKP" or key.get("crv") != "Ed25519":
            raise KeyRefused(f"the public key {kid!r} is not an Ed25519 key (kty OKP, crv Ed25519)")
        if (x := key_half(key, "x")) is None:
            raise KeyRefused(f"the x of the public key {kid!r} is not 32 bytes in base64url")
        # Built from the public fields alone, so that a private part handed in by mistake is
        # not kept.
        public = jose_jwk.JWK(kty="OKP", crv="Ed25519", x=x, kid=kid)
        if self._keys.setdefault(kid, public) != public:
            raise KeyRefused(f"two different public keys have the kid {kid!r}; rename one")

    def __contains__(self, kid: object) -> bool:
        return kid in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the set as a JWKS document."""
        return {"keys": [dict(key.export_public(as_dict=True)) for key in self._keys.values()]}

    def verify_jws(self, token: str) -> bytes:
        """The payload of a compact JWS that one of these keys signed; else SignatureRefused."""
        header = _protected_header(token)
        alg, kid = header.get("alg"), header.get("kid")
        if alg not in ALGORITHMS:
            raise SignatureRefused(f"the token is signed with {alg!r}; only EdDSA is accepted")
        if "crit" in header:
            raise SignatureRefused("the token asks for extensions (crit) that are not supported")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise SignatureRefused(f"the token names the key {kid!r}, which is not a known key")
        parsed = jose_jws.JWS()
        parsed.allowed_algs = list(ALGORITHMS)
        try:
            parsed.deserialize(token)
            parsed.verify(key)
        except (JWException, ValueError, TypeError):
            raise SignatureRefused(
                f"the signature does not belong to the payload and the key {kid!r}"
            ) from None
        return bytes(parsed.payload)


def _protected_header(token: str) -> dict[str, Any]:
    try:
        protected, _, _ = token.split(".")
    except ValueError:
        raise SignatureRefused(
            "the token is not a compact JWS (three parts joined by dots)"
        ) from None
    try:
        header = json.loads(b64decode(protected), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise SignatureRefused("the header of the token is not a JSON object")
    return header
