from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto import jwk as jose_jwk
from jwcrypto import jws as jose_jws

from spooler.errors import KeyRefused, SignatureRefused
from spooler.signing.jws import KeySet, b64decode, b64encode, compact
from spooler.signing.keys import PrivateKey, generate

# RFC 8037, appendix A
RFC_D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_JWS = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
KEY = generate("lab-1")


def test_signing_gives_the_vector_of_rfc_8037() -> None:
    key = PrivateKey(b64decode(RFC_D))
    assert key.public()["x"] == RFC_X
    assert compact(b'{"alg":"EdDSA"}', b"Example of Ed25519 signing", key.sign) == RFC_JWS


@given(payload=st.binary(max_size=300), kid=st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True))
def test_the_fast_path_gives_the_bytes_of_jwcrypto(payload: bytes, kid: str) -> None:
    key = generate(kid)
    token = jose_jws.JWS(payload)
    header = json.dumps({"alg": "EdDSA", "kid": kid}, separators=(",", ":"))
    token.add_signature(jose_jwk.JWK(**key.private_jwk()), protected=header)
    assert key.jws(payload) == token.serialize(compact=True)


@given(seed=st.binary(min_size=32, max_size=32))
def test_jwcrypto_reads_the_documents_of_a_key(seed: bytes) -> None:
    key = PrivateKey(seed)
    private = jose_jwk.JWK.from_json(json.dumps(key.private_jwk()))
    public = jose_jwk.JWK.from_json(json.dumps(key.public()))
    assert private.get_op_key("sign").private_bytes_raw() == seed
    assert public.get_op_key("verify").public_bytes_raw() == b64decode(key.public()["x"])
    assert key.kid == private.thumbprint() == public.thumbprint()
    assert not public.has_private


@given(payload=st.binary(max_size=300))
def test_jwcrypto_reads_what_we_sign(payload: bytes) -> None:
    token = jose_jws.JWS()
    token.deserialize(KEY.jws(payload), jose_jwk.JWK(**KEY.public()), alg="EdDSA")
    assert token.payload == payload
    assert token.jose_header == {"alg": "EdDSA", "kid": "lab-1"}


@given(payload=st.binary(max_size=300))
def test_we_read_what_we_sign(payload: bytes) -> None:
    assert KeySet([generate().public(), KEY.public()]).verify_jws(KEY.jws(payload)) == payload


def test_we_read_what_jwcrypto_signs() -> None:
    token = jose_jws.JWS(b"data")
    token.add_signature(
        jose_jwk.JWK(**KEY.private_jwk()), protected='{"alg":"EdDSA","kid":"lab-1","typ":"x"}'
    )
    assert KeySet([KEY.public()]).verify_jws(token.serialize(compact=True)) == b"data"


def _token(header: dict[str, object], payload: bytes = b"x", key: PrivateKey = KEY) -> str:
    return compact(json.dumps(header).encode(), payload, key.sign)


def _hmac_with_public_key() -> str:
    secret = jose_jwk.JWK(kty="oct", k=KEY.public()["x"])
    token = jose_jws.JWS(b"x")
    token.add_signature(secret, protected='{"alg":"HS256","kid":"lab-1"}')
    return str(token.serialize(compact=True))


def _signed(header: bytes) -> str:
    """A token that is right but for its header."""
    signed = f"{b64encode(header)}.{b64encode(b'x')}"
    return f"{signed}.{b64encode(KEY.sign(signed.encode()))}"


def _unencoded_payload() -> str:
    """A token with the extension of RFC 7797, which jwcrypto alone takes for a signed one."""
    header = b64encode(b'{"alg":"EdDSA","kid":"lab-1","b64":false,"crit":["b64"]}')
    signature = KEY.sign(f"{header}.x".encode())
    return f"{header}.{b64encode(b'x')}.{b64encode(signature)}"


HEAD, BODY, SIGNATURE = KEY.jws(b"payload").split(".")
BAD_TOKENS = {
    "empty": "",
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{HEAD}.{BODY}.{SIGNATURE}.x",
    "unsigned": f"{HEAD}.{BODY}.",
    "other payload": f"{HEAD}.{b64encode(b'Payload')}.{SIGNATURE}",
    "short signature": f"{HEAD}.{BODY}.{SIGNATURE[:-4]}",
    "no base64": f"{HEAD}.{BODY}.!{SIGNATURE[1:]}",
    "header no json": f"{b64encode(b'{')}.{BODY}.{SIGNATURE}",
    "header no object": f"{b64encode(b'[1]')}.{BODY}.{SIGNATURE}",
    "not ascii": f"{HEAD}.{BODY}.{SIGNATURE}\u00e9",
    "deep header": f"{b64encode(b'[' * 100_000)}.{BODY}.{SIGNATURE}",
    "kid twice": _signed(b'{"alg":"EdDSA","kid":"lab-2","kid":"lab-1"}'),
    "no kid": _token({"alg": "EdDSA"}),
    "kid a list": _token({"alg": "EdDSA", "kid": ["lab-1"]}),
    "unknown kid": _token({"alg": "EdDSA", "kid": "lab-2"}),
    "another key under the kid": _token({"alg": "EdDSA", "kid": "lab-1"}, key=generate()),
    "alg missing": _token({"kid": "lab-1"}),
    "alg none, signed": _token({"alg": "none", "kid": "lab-1"}),
    "alg Ed448": _token({"alg": "Ed448", "kid": "lab-1"}),
    "alg a list": _token({"alg": ["EdDSA"], "kid": "lab-1"}),
    "crit": _token({"alg": "EdDSA", "kid": "lab-1", "crit": ["exp"], "exp": 1}),
    "crit that jwcrypto knows": _unencoded_payload(),
    "HS256 with the public key": _hmac_with_public_key(),
}
_NONE_HEADER = b64encode(b'{"alg":"none","kid":"lab-1"}')
BAD_TOKENS["alg none"] = f"{_NONE_HEADER}.{BODY}."


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_anything_else_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(SignatureRefused) as caught:
        KeySet([KEY.public()]).verify_jws(BAD_TOKENS[name])
    assert "\n" not in str(caught.value)


@given(st.text(max_size=80))
def test_no_text_makes_verifying_crash(text: str) -> None:
    with pytest.raises(SignatureRefused):
        KeySet([KEY.public()]).verify_jws(text)


@given(position=st.integers(0, len(KEY.jws(b"payload")) - 1), other=st.sampled_from("Aaz09_-."))
def test_a_changed_character_is_noticed(position: int, other: str) -> None:
    token = KEY.jws(b"payload")
    changed = token[:position] + other + token[position + 1 :]
    try:
        assert KeySet([KEY.public()]).verify_jws(changed) == b"payload"
    except SignatureRefused:
        return
    # The last character of a base64url text has bits that mean nothing.
    parts = zip(token.split("."), changed.split("."), strict=True)
    assert all(b64decode(one) == b64decode(two) for one, two in parts)


def test_a_set_keeps_no_private_part() -> None:
    keys = KeySet([KEY.private_jwk()])
    assert "lab-1" in keys
    assert len(keys) == 1
    (document,) = keys.jwks()["keys"]
    assert document["x"] == KEY.public()["x"]
    assert "d" not in document
    assert KeySet(keys.jwks()["keys"]).verify_jws(KEY.jws(b"x")) == b"x"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kid": ""}, "no kid"),
        ({"kid": None}, "no kid"),
        ({"kty": "EC"}, "not an Ed25519 key"),
        ({"crv": "X25519"}, "not an Ed25519 key"),
        ({"x": "AAAA"}, "32 bytes"),
        ({"x": None}, "32 bytes"),
        ({"x": "\u00e9"}, "32 bytes"),
    ],
)
def test_a_set_takes_public_ed25519_keys_only(change: dict[str, object], reason: str) -> None:
    with pytest.raises(KeyRefused, match=reason):
        KeySet([{**KEY.public(), **change}])


def test_one_kid_names_one_key() -> None:
    keys = KeySet([KEY.public()])
    keys.add(KEY.public())
    with pytest.raises(KeyRefused, match="two different public keys"):
        keys.add(generate("lab-1").public())


@given(st.binary(max_size=100))
def test_base64url_with_and_without_padding(raw: bytes) -> None:
    bare = b64encode(raw)
    assert "=" not in bare
    assert b64decode(bare) == b64decode(bare + "=" * (-len(bare) % 4)) == raw
    assert b64decode(bare.encode()) == raw


@pytest.mark.parametrize("text", ["a", "a+b/", "ab cd", "ab\n", "=ab", "ab===", "\u00e9\u00e9"])
def test_what_is_no_base64url(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        b64decode(text)
