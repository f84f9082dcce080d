from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spooler.errors import KeyRefused
from spooler.signing.keys import generate
from spooler.signing.sqooler_form import (
    JWK,
    JWSDict,
    JWSHeader,
    create_jwk_pair,
    is_signed,
    jwk_from_config_str,
    payload_of,
    private_jwk_of,
    public_from_private_jwk,
    public_jwk_of,
    sign_document,
    sign_payload,
    signer_of,
    verify_document,
)

KEY = generate("lab-1")
PRIVATE, PUBLIC = private_jwk_of(KEY), public_jwk_of(KEY)
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)
payloads = st.dictionaries(st.text(max_size=6), values, max_size=4)


def test_the_signed_bytes_are_those_of_the_wire_format() -> None:
    document = sign_document({"b": 1.0, "a": "\u00e9", "at": NOON}, KEY)
    header = '{"alg":"EdDSA","kid":"lab-1","typ":"JWS","version":"0.1"}'
    payload = '{"b": 1.0, "a": "\\u00e9", "at": "2026-11-22T12:00:00+00:00"}'
    message = b".".join(base64.urlsafe_b64encode(text.encode()) for text in (header, payload))
    assert document == {
        "header": json.loads(header),
        "payload": json.loads(payload),
        "signature": base64.urlsafe_b64encode(KEY.sign(message)).decode(),
    }
    assert list(document["header"]) == ["alg", "kid", "typ", "version"]
    assert JWSHeader(kid="lab-1").to_base64url() == base64.urlsafe_b64encode(header.encode())


@given(payloads)
def test_a_signature_survives_the_storage(payload: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(sign_document(payload, KEY)))
    assert is_signed(stored)
    assert payload_of(stored) == json.loads(json.dumps(payload))
    assert verify_document(stored, PUBLIC)
    assert JWSDict(**stored).verify_signature(PUBLIC)
    assert not verify_document(stored, create_jwk_pair("lab-1")[1])


@given(payloads)
def test_both_ways_to_sign_agree(payload: dict[str, Any]) -> None:
    assert sign_payload(payload, PRIVATE).model_dump() == sign_document(payload, KEY)


@given(payloads, st.text(max_size=4), values)
def test_a_changed_payload_is_noticed(payload: dict[str, Any], key: str, value: Any) -> None:
    document = sign_document(payload, KEY)
    changed = {**payload, key: value}
    same = json.dumps(changed) == json.dumps(payload)
    assert verify_document({**document, "payload": changed}, PUBLIC) is same


def test_the_order_of_keys_is_signed() -> None:
    document = sign_document({"a": 1, "b": 2}, KEY)
    assert not verify_document({**document, "payload": {"b": 2, "a": 1}}, PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"signature": ""},
        {"signature": "AAAA"},
        {"signature": "!"},
        {"signature": None},
        {"signature": 5},
        {"header": None},
        {"header": {}},
        {"header": {"kid": "lab-2"}},
        {"header": {"kid": "lab-1", "alg": "none"}},
        {"header": {"kid": "lab-1", "note": "not signed"}},
        {"header": "kid"},
        {"payload": None},
        {"payload": [1]},
        {"payload": {"a": object()}},
        {"more": 1},
    ],
)
def test_a_malformed_document_is_not_verified(change: dict[str, object]) -> None:
    document = {**sign_document({"a": 1}, KEY), **change}
    assert not verify_document(document, PUBLIC)


def test_the_alg_is_pinned_even_when_it_is_signed() -> None:
    header = JWSHeader(kid="lab-1", alg="none")
    message = header.to_base64url() + b"." + base64.urlsafe_b64encode(b'{"a": 1}')
    signature = base64.urlsafe_b64encode(KEY.sign(message)).decode()
    document = {"header": header.model_dump(), "payload": {"a": 1}, "signature": signature}
    assert not verify_document(document, PUBLIC)


def test_a_signature_may_come_back_as_bytes() -> None:
    document = sign_document({"a": 1}, KEY)
    stored = {**document, "signature": document["signature"].encode()}
    assert verify_document(stored, PUBLIC)
    assert JWSDict(**stored).signature == document["signature"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_does_not_have_is_not_signed(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        sign_document({"a": [number]}, KEY)
    with pytest.raises(ValueError, match="JSON"):
        sign_document({"a": [number], "at": NOON}, KEY)
    with pytest.raises(TypeError, match="object"):
        sign_document({"a": object()}, KEY)


def test_signed_or_not_is_told_by_the_keys() -> None:
    document = sign_document({"a": 1}, KEY)
    assert is_signed(document)
    assert payload_of(document) == {"a": 1}
    for other in ({}, {"a": 1}, {**document, "more": 1}, {"header": 1, "payload": {}}):
        assert not is_signed(other)
        assert payload_of(other) == other
        assert not verify_document(other, PUBLIC)


def test_the_right_half_of_a_key_for_each_purpose() -> None:
    document = sign_document({"a": 1}, KEY)
    with pytest.raises(ValueError, match="not for verifying"):
        verify_document(document, PRIVATE)
    with pytest.raises(ValueError, match="not a private key"):
        sign_payload({"a": 1}, PUBLIC)
    with pytest.raises(ValueError, match="not a private key"):
        public_from_private_jwk(PUBLIC)
    assert public_from_private_jwk(PRIVATE) == PUBLIC
    assert signer_of(PRIVATE).private_jwk() == KEY.private_jwk()


def test_a_key_is_stored_with_the_padding_that_sqooler_needs() -> None:
    bare = JWK(x=KEY.public()["x"].encode(), key_ops="verify", kid="lab-1")
    assert bare == PUBLIC
    x = KEY.public()["x"] + "="
    assert json.loads(bare.model_dump_json()) == {
        "x": x,
        "key_ops": "verify",
        "kid": "lab-1",
        "d": None,
        "kty": "OKP",
        "alg": "EdDSA",
        "crv": "Ed25519",
    }
    assert verify_document(sign_document({}, KEY), bare.model_dump(mode="json"))


def test_a_key_shows_no_secret() -> None:
    assert PRIVATE.d is not None
    assert PRIVATE.d.decode().rstrip("=") not in repr(PRIVATE) + str(PRIVATE)


def test_the_text_for_the_environment() -> None:
    private, public = create_jwk_pair("lab-2")
    assert jwk_from_config_str(private.to_config_str()) == private
    with pytest.raises(KeyRefused, match="public key"):
        jwk_from_config_str(public.to_config_str())


@pytest.mark.parametrize(
    "change", [{"kid": "../k"}, {"kid": ""}, {"x": b"AAAA"}, {"x": b"!"}, {"crv": "X25519"}]
)
def test_a_key_that_cannot_be_used_is_no_key(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JWK.model_validate({**PUBLIC.model_dump(), **change})
