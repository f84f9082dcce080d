"""Signed documents in the form that the sqooler client verifies.

It is not RFC 7515: the padding stays in the base64url text, the payload is an object, and the
signed bytes depend on the order of the keys and on how Python prints numbers
(wire-sqooler.md, "Signatures"). Names and fields are those of sqooler's public package.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from spooler.protocols import Signer
from spooler.signing.jws import PUBLIC_BYTES, b64decode
from spooler.signing.keys import PrivateKey, check_kid, from_sqooler_text, generate

#: A document is signed when these are its keys, all of them and no others.
SIGNED_KEYS = frozenset({"header", "payload", "signature"})


def _padded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii")


def _key_text(value: bytes) -> bytes:
    """Half a key as sqooler reads it: with padding, which it needs, and of the right length."""
    raw = b64decode(value)
    if len(raw) != PUBLIC_BYTES:
        raise ValueError("half of an Ed25519 key must be 32 bytes")
    return _padded(raw).encode("ascii")


_KeyText = Annotated[bytes, AfterValidator(_key_text)]


class JWSHeader(BaseModel):
    """What a signature says about itself."""

    alg: str = "EdDSA"
    kid: str
    typ: str = "JWS"
    version: str = "0.1"

    def to_base64url(self) -> bytes:
        """Return the first half of the signed bytes."""
        return base64.urlsafe_b64encode(self.model_dump_json().encode("utf-8"))


class JWK(BaseModel):
    """An Ed25519 key; `key_ops` is plain text here, not the list of RFC 7517."""

    x: _KeyText
    key_ops: Literal["sign", "verify"]
    kid: Annotated[str, AfterValidator(check_kid)]
    d: _KeyText | None = Field(default=None, repr=False)
    kty: Literal["OKP"] = "OKP"
    alg: Literal["EdDSA"] = "EdDSA"
    crv: Literal["Ed25519"] = "Ed25519"

    def to_config_str(self) -> str:
        """Return the text for `PRIVATE_JWK_STR`."""
        return _padded(self.model_dump_json().encode("utf-8"))


class JWSDict(BaseModel):
    """A signed document."""

    header: JWSHeader
    payload: dict[str, Any]
    signature: str

    def verify_signature(self, public_jwk: JWK) -> bool:
        """Return whether `public_jwk` made the signature; ValueError when it is a private key."""
        return verify_document(self.model_dump(), public_jwk)


def jwk_from_config_str(jwk_base64_str: str) -> JWK:
    """Return the key in the text of `PRIVATE_JWK_STR`; KeyRefused when it holds none."""
    return private_jwk_of(from_sqooler_text(jwk_base64_str))


def create_jwk_pair(kid: str) -> tuple[JWK, JWK]:
    """Return a new private key and its public half."""
    key = generate(kid)
    return private_jwk_of(key), public_jwk_of(key)


def create_key_pair() -> tuple[Ed25519PrivateKey, Ed25519PublicKey]:
    """Return a new private key and its public half, as objects of the package cryptography."""
    key = Ed25519PrivateKey.generate()
    return key, key.public_key()


def public_from_private_jwk(private_jwk: JWK) -> JWK:
    """Return the public half; ValueError when `private_jwk` is not a private key."""
    return public_jwk_of(signer_of(private_jwk))


def private_jwk_of(key: PrivateKey) -> JWK:
    """`key` as sqooler's users know it."""
    document = key.private_jwk()
    return JWK.model_validate(
        {"x": document["x"], "key_ops": "sign", "kid": key.kid, "d": document["d"]}
    )


def public_jwk_of(signer: Signer) -> JWK:
    """Return the public half of `signer`, as the storage keeps it."""
    return JWK.model_validate({"x": signer.public()["x"], "key_ops": "verify", "kid": signer.kid})


def signer_of(jwk: JWK) -> PrivateKey:
    """Return a Signer of a private key; ValueError when it is a public one."""
    if jwk.key_ops != "sign" or jwk.d is None:
        raise ValueError(f"the key {jwk.kid!r} cannot sign: it is not a private key")
    return PrivateKey(b64decode(jwk.d), jwk.kid)


def sign_payload(payload: Mapping[str, Any], jwk: JWK) -> JWSDict:
    """`payload` signed by a private JWK; ValueError for a public one, or for NaN inside."""
    return JWSDict.model_validate(sign_document(payload, signer_of(jwk)))


def sign_document(payload: Mapping[str, Any], signer: Signer) -> dict[str, Any]:
    """`payload` signed: a plain dict of `header`, `payload` and `signature`, ready for JSON.

    Datetimes inside become ISO text. Raises ValueError for numbers that JSON does not have and
    TypeError for values that it does not have.
    """
    text, plain = _plain(payload)
    header = {"alg": "EdDSA", "kid": signer.kid, "typ": "JWS", "version": "0.1"}
    signed = signer.sign(_signed_bytes(_encoded(header), text))
    return {"header": header, "payload": plain, "signature": _padded(signed)}


#: Made once: `json.dumps` with options makes one for each call.
_ENCODER = json.JSONEncoder(allow_nan=False)


@lru_cache(maxsize=16)
def _headers(kid: str) -> tuple[bytes, str]:
    """Return the header as it is signed (in base64url), and as it is shown."""
    header = {"alg": "EdDSA", "kid": kid, "typ": "JWS", "version": "0.1"}
    return _encoded(header), json.dumps(header)


def signed_text(payload: Mapping[str, Any], signer: Signer) -> str:
    """`payload` signed, as the JSON text of the whole document.

    For plain JSON only. It is the text of `sign_document`, made without writing the payload
    twice; TypeError and ValueError as there.
    """
    text = _ENCODER.encode(payload)
    signed_header, shown_header = _headers(signer.kid)
    signature = _padded(signer.sign(_signed_bytes(signed_header, text)))
    return f'{{"header": {shown_header}, "payload": {text}, "signature": "{signature}"}}'


def _plain(payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text that is signed, and a payload that any storage gives back to the same text."""
    try:
        return json.dumps(payload, allow_nan=False), dict(payload)
    except TypeError:
        # There is something that JSON does not know; a datetime is the only thing it may be.
        text = json.dumps(payload, default=datetime_handler, allow_nan=False)
        return text, json.loads(text)


def datetime_handler(value: object) -> str:
    """The ISO text of a datetime, for `json.dumps(default=...)`; TypeError for anything else."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")


def _encoded(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode("utf-8"))


def _signed_bytes(encoded_header: bytes, payload: str) -> bytes:
    return encoded_header + b"." + base64.urlsafe_b64encode(payload.encode("ascii"))


def payload_to_base64url(payload: Mapping[str, Any]) -> bytes:
    """Return the second half of the signed bytes."""
    return base64.urlsafe_b64encode(_plain(payload)[0].encode("ascii"))


def is_signed(document: Mapping[str, Any]) -> bool:
    """Return whether a document has the form of a signed one; says nothing about its signature."""
    return document.keys() == SIGNED_KEYS and isinstance(document["payload"], Mapping)


def payload_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said, whether signed or not; the signature is not looked at."""
    return dict(document["payload"] if is_signed(document) else document)


def verify_document(document: Mapping[str, Any], jwk: JWK | Mapping[str, Any]) -> bool:
    """Return whether the public key `jwk` made the signature of a signed document.

    False for anything malformed or unsigned. ValueError when `jwk` is not a public key.
    """
    public = jwk if isinstance(jwk, JWK) else JWK.model_validate(jwk)
    if public.key_ops != "verify":
        raise ValueError(f"the key {public.kid!r} is not for verifying: give the public one")
    if not is_signed(document):
        return False
    signature, header = document["signature"], document["header"]
    try:
        checked = JWSHeader.model_validate(header)
        text = json.dumps(document["payload"], default=datetime_handler)
        raw = b64decode(signature)
    except (ValidationError, ValueError, TypeError, AttributeError, RecursionError):
        return False
    if checked.alg != "EdDSA" or set(header) - JWSHeader.model_fields.keys():
        return False
    try:
        Ed25519PublicKey.from_public_bytes(b64decode(public.x)).verify(
            raw, _signed_bytes(checked.to_base64url(), text)
        )
    except InvalidSignature:
        return False
    return True
