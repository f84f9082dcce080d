from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from spooler import durable
from spooler.errors import KeyRefused
from spooler.protocols import Signer
from spooler.signing.jws import b64decode, b64encode
from spooler.signing.keys import (
    PrivateKey,
    from_sqooler_text,
    generate,
    load_file,
    retired,
    rotate,
    thumbprint,
    write_file,
)

RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def put(path: Path, content: object, mode: int = 0o600) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def test_the_thumbprint_of_rfc_8037() -> None:
    assert thumbprint(RFC_X) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_without_a_name_is_called_by_its_thumbprint() -> None:
    key = generate()
    assert key.kid == thumbprint(key.public()["x"])
    assert generate("lab-1").kid == "lab-1"


def test_the_secret_is_not_shown() -> None:
    key = generate("lab-1")
    secret = key.private_jwk()["d"]
    assert repr(key) == "PrivateKey(kid='lab-1')"
    assert secret not in f"{key} {key!r} {key.public()}"
    assert "d" not in key.public()
    assert key.private_jwk() == {**key.public(), "d": secret}


def test_a_private_key_is_a_signer() -> None:
    signer: Signer = generate()
    assert len(signer.sign(b"message")) == 64


@pytest.mark.parametrize(
    "kid", ["", ".", "..", ".hidden", "a/b", "a b", "\u00e9", "a" * 129, "a\n"]
)
def test_a_kid_is_a_plain_file_name(kid: str, tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="not a plain name"):
        generate(kid)
    path = put(tmp_path / "key", {**generate().private_jwk(), "kid": kid})
    with pytest.raises(KeyRefused, match="not a plain name"):
        load_file(path)


def test_written_and_read_again(tmp_path: Path) -> None:
    key, path = generate(), tmp_path / "new" / "key.json"
    write_file(key, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_file(path).private_jwk() == key.private_jwk()
    assert [entry.name for entry in path.parent.iterdir()] == ["key.json"]


def test_private_from_its_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    real = os.open

    def spy(path: object, flags: int, mode: int = 0o777, **folder: object) -> int:
        if flags & os.O_CREAT:
            modes.append(mode)
        return real(path, flags, mode, **folder)  # type: ignore[call-overload]

    monkeypatch.setattr(durable.os, "open", spy)
    write_file(generate(), tmp_path / "key.json")
    rotate(tmp_path / "key.json")
    assert modes == [0o600] * 3


def test_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_file(generate("one"), path)
    with pytest.raises(KeyRefused, match="never overwritten"):
        write_file(generate("two"), path)
    assert load_file(path).kid == "one"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyRefused, match="cannot be written") as caught:
        write_file(generate(), tmp_path / "file" / "key.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o666])
def test_readable_by_others_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    write_file(generate(), path)
    path.chmod(mode)
    with pytest.raises(KeyRefused, match=f"chmod 600 {path}"):
        load_file(path)
    path.chmod(0o400)
    load_file(path)


def _acl(path: Path, *entries: tuple[int, int, int]) -> None:
    import struct

    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")


NOBODY, NO_ID = 65534, 0xFFFFFFFF


def test_a_systemd_credential_is_shared_with_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_file(generate("lab-1"), path)
    us = os.geteuid()
    _acl(path, (1, 4, NO_ID), (2, 4, us), (4, 0, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID))
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert load_file(path).kid == "lab-1"
    _acl(path, (1, 4, NO_ID), (2, 4, NOBODY), (4, 0, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID))
    with pytest.raises(KeyRefused, match="chmod 600"):
        load_file(path)


GOOD = generate("lab-1").private_jwk()
OTHER_X = generate().public()["x"]
BAD_FILES = {
    "missing": (None, "key file not found"),
    "no json": ('{"kty": ', "not a key file"),
    "a list": ("[1]", "not a key file"),
    "a pem": ("-----BEGIN PRIVATE KEY-----\nMC4", "not a key file"),
    "empty": ("", "not a key file"),
    "binary": ("\u00ff\u00fe", "not a key file"),
    "nested": ('{"a":' * 10_000, "not a key file"),
    "large": ("{" + " " * 70_000, "too large"),
    "public": ({**GOOD, "d": None}, "public key"),
    "RSA": ({"kty": "RSA", "n": "AQ", "e": "AQAB", "d": "AQ"}, "not an Ed25519 key"),
    "X25519": ({**GOOD, "crv": "X25519"}, "not an Ed25519 key"),
    "wrong alg": ({**GOOD, "alg": "HS256"}, "HS256"),
    "for verifying": ({**GOOD, "key_ops": ["verify"]}, "not for signing"),
    "for verifying, sqooler": ({**GOOD, "key_ops": "verify"}, "not for signing"),
    "for encryption": ({**GOOD, "use": "enc"}, "not for signatures"),
    "short d": ({**GOOD, "d": "AAAA"}, "32 bytes"),
    "d no text": ({**GOOD, "d": 5}, "32 bytes"),
    "x of another key": ({**GOOD, "x": OTHER_X}, "not the public half"),
    "x missing": ({key: GOOD[key] for key in GOOD if key != "x"}, "not the public half"),
    "kid a number": ({**GOOD, "kid": 7}, "kid must be text"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_key_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    content, reason = BAD_FILES[name]
    path = tmp_path / "key.json"
    if content is not None:
        put(path, content)
    with pytest.raises(KeyRefused, match=reason) as caught:
        load_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert GOOD["d"] not in message
    assert caught.value.__cause__ is None or caught.value.__suppress_context__


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="not a regular file"):
        load_file(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(KeyRefused, match="not a regular file"):
        load_file(pipe)
    with pytest.raises(KeyRefused, match="cannot be read"):
        load_file(put(tmp_path / "x", "") / "key.json")


def sqooler_text(*, padded: bool, whole: bool = True) -> tuple[PrivateKey, str]:
    key = generate("lab-1")
    d, x = key.private_jwk()["d"], key.public()["x"]
    pad = "=" if padded else ""
    document = {"x": x + pad, "key_ops": "sign", "kid": "lab-1", "d": d + pad, "kty": "OKP"}
    document |= {"alg": "EdDSA", "crv": "Ed25519"}
    text = base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
    return key, text if whole else text.rstrip("=")


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_the_text_of_sqoolers_users(padded: bool, whole: bool, tmp_path: Path) -> None:
    key, text = sqooler_text(padded=padded, whole=whole)
    assert from_sqooler_text(text).private_jwk() == key.private_jwk()
    assert from_sqooler_text(f" {text[:40]}\n{text[40:]}\n").kid == "lab-1"
    assert load_file(put(tmp_path / "credential", text + "\n")).kid == "lab-1"


@pytest.mark.parametrize("text", ["", "%%%", "\u00e9", b64encode(b"[1]"), b64encode(b"{")])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(KeyRefused, match="PRIVATE_JWK_STR"):
        from_sqooler_text(text)


# --- rotation --------------------------------------------------------------------------------


def test_rotation_keeps_the_old_key_beside(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_file(generate("one"), path)
    first = rotate(path)
    second = rotate(path, "three")
    assert (first.old.kid, second.new.kid) == ("one", "three")
    assert first.kept == tmp_path / "key.json.one.old"
    assert second.old.kid == first.new.kid
    assert load_file(path).kid == "three"
    assert {key.kid for key in retired(path)} == {"one", first.new.kid}
    modes = {stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert modes == {0o600}
    assert len(list(tmp_path.iterdir())) == 3


def test_rotation_through_a_link_changes_the_file_behind_it(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    write_file(generate("one"), real)
    link.symlink_to(real)
    rotation = rotate(link)
    assert link.is_symlink()
    assert load_file(real).kid == rotation.new.kid
    assert [key.kid for key in retired(link)] == ["one"]


def test_rotation_needs_another_name(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_file(generate("one"), path)
    with pytest.raises(KeyRefused, match="already called"):
        rotate(path, "one")
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.json"]


def test_rotation_does_not_replace_another_old_key(tmp_path: Path) -> None:
    path, kept = tmp_path / "key.json", tmp_path / "key.json.one.old"
    write_file(generate("one"), path)
    write_file(generate("one"), kept)
    before = path.read_bytes(), kept.read_bytes()
    with pytest.raises(KeyRefused, match="never overwritten"):
        rotate(path)
    assert (path.read_bytes(), kept.read_bytes()) == before


class Killed(BaseException):
    pass


STEPS = ("open", "write", "fsync", "link", "rename", "unlink")


@pytest.mark.parametrize("stop_at", range(24))
def test_rotation_stopped_anywhere_leaves_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    path = tmp_path / "key.json"
    write_file(generate("one"), path)
    count = 0

    def stopping(name: str) -> object:
        real = getattr(os, name)

        def step(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count > stop_at:
                raise Killed
            return real(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(durable.os, name, stopping(name))
        try:
            rotate(path)
        except Killed:
            pass
        else:
            assert stop_at > 12
    there = load_file(path)
    old = {key.kid for key in retired(path)}
    assert there.kid == "one" or "one" in old
    again = rotate(path)
    assert load_file(path).kid == again.new.kid
    assert "one" in {key.kid for key in retired(path)}


READER = """
import sys, pathlib
from spooler.signing.keys import load_file
path, seen = pathlib.Path(sys.argv[1]), set()
print("ready", flush=True)
while len(seen) < 20:
    seen.add(load_file(path).kid)
"""


def test_a_reader_always_finds_a_whole_key_during_rotation(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_file(generate(), path)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    with reader.stdout:
        assert reader.stdout.readline() == "ready\n"
        for _ in range(2000):
            if reader.poll() is not None:
                break
            rotate(path)
    assert reader.wait(timeout=30) == 0


def test_the_name_of_the_key_file_is_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "key[1]*.json"
    write_file(generate("one"), path)
    write_file(generate("foreign"), tmp_path / "key1x.json.foreign.old")
    rotate(path)
    assert [key.kid for key in retired(path)] == ["one"]


def test_rfc_key_is_read_from_its_seed() -> None:
    assert PrivateKey(b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")).kid.startswith(
        "kPrK"
    )
