"""`spooler init`: a folder that signs from its first result on."""

from __future__ import annotations

import json
import stat

import pytest


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SPOOLER_CONFIG", "PRIVATE_JWK_STR", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def tree(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_the_first_result_is_signed(empty, said, process, monkeypatch):
    done = said("init", "lab")
    assert done.code == 0, done.err
    lab = empty / "lab"
    assert stat.S_IMODE((lab / "keys" / "backend.jwk").stat().st_mode) == 0o600
    schema = json.loads((lab / "spooler.schema.json").read_text())
    assert schema["title"] == "Settings of spooler"
    assert (lab / "spooler.toml").read_text().startswith("#:schema ./spooler.schema.json\n")
    monkeypatch.chdir(lab)
    assert said("check").code == 0
    (name,) = [each for each in ("singlequdit", "echo") if f"[devices.{each}]" in text(lab)]
    assert process("run", "--once", cwd=lab).wait(60) == 0  # announces the device
    (lab / "payload.json").write_text(json.dumps(PAYLOADS[name]))
    job = said("submit", name, "payload.json").out.strip()
    assert process("run", "--once", cwd=lab).wait(60) == 0
    shown = said("verify", job)
    assert (shown.code, "verified" in shown.out) == (0, True), shown


def text(lab):
    return (lab / "spooler.toml").read_text()


PAYLOADS = {
    "echo": {"x": 1},
    "singlequdit": {
        "experiment_0": {
            "instructions": [["load", [0], [5]], ["measure", [0], []]],
            "num_wires": 1,
            "shots": 3,
            "wire_order": "interleaved",
        }
    },
}


def test_settings_that_are_there_are_left_alone(empty, said):
    (empty / "spooler.toml").write_text("mine")
    before = tree(empty)
    done = said("init")
    assert (done.code, tree(empty)) == (73, before)
    assert "already exists and was not changed; use it, or name a new folder" in done.err


def test_a_key_that_is_there_is_used(empty, said):
    assert said("keys", "generate", "keys/backend.jwk", "--kid", "old").code == 0
    key = (empty / "keys" / "backend.jwk").read_bytes()
    done = said("init")
    assert (done.code, "the key that was there, kid old" in done.out) == (0, True)
    assert (empty / "keys" / "backend.jwk").read_bytes() == key


def test_a_key_that_cannot_be_used_is_said_before_there_are_settings(empty, said):
    (empty / "keys").mkdir()
    (empty / "keys" / "backend.jwk").write_text("{}")
    done = said("init")
    assert done.code == 78
    assert "chmod 600" in done.err
    assert not (empty / "spooler.toml").exists()


def test_a_place_where_no_folder_can_be(empty, said):
    (empty / "file").write_text("")
    done = said("init", "file/lab")
    assert done.code == 73
    assert len(done.err.strip().splitlines()) == 1
