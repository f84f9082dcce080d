import base64
import json
import shutil
import stat

import pytest


def test_a_new_key_is_its_owners_alone_and_never_overwritten(said, tmp_path):
    file = tmp_path / "keys" / "a.jwk"
    done = said("keys", "generate", file, "--kid", "lab1")
    assert done.code == 0
    assert "kid lab1" in done.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    again = said("keys", "generate", file)
    assert again.code == 73
    assert "never overwritten" in again.err
    assert file.read_bytes() == before


def test_the_public_key_is_shown_and_the_private_one_never(said, tmp_path):
    file = tmp_path / "a.jwk"
    said("keys", "generate", file)
    secret = json.loads(file.read_text())["d"]
    for command in ("show", "rotate"):
        done = said("keys", command, file)
        assert done.code == 0
        assert secret not in done.out + done.err
    public = json.loads(said("keys", "show", file).out)
    assert {"kty": "OKP", "crv": "Ed25519"}.items() <= public.items()
    assert "d" not in public


def test_rotation_keeps_the_old_key(said, tmp_path):
    file = tmp_path / "a.jwk"
    said("keys", "generate", file, "--kid", "old")
    before = json.loads(file.read_text())
    done = said("keys", "rotate", file, "--kid", "new")
    assert "kid new" in done.out
    assert json.loads(file.read_text())["kid"] == "new"
    (kept,) = [other for other in tmp_path.iterdir() if other != file]
    assert json.loads(kept.read_text())["d"] == before["d"]


def test_without_a_file_the_settings_say_which(lab, said):
    kid = json.loads(said("keys", "show").out)["kid"]
    assert json.loads((lab.folder / "backend.jwk").read_text())["kid"] == kid


@pytest.mark.parametrize("command", ["generate", "show", "rotate"])
def test_settings_without_a_key_say_what_to_do(lab, said, command):
    text = lab.settings.replace('key = "backend.jwk"', "")
    (lab.folder / "spooler.toml").write_text(text)
    done = said("keys", command)
    assert done.code == 78
    assert "keys/backend.jwk" in done.err


def test_a_key_that_others_can_read_is_refused(lab, said):
    (lab.folder / "backend.jwk").chmod(0o644)
    done = said("keys", "show")
    assert done.code == 78
    assert "chmod 600" in done.err


def test_the_variable_of_sqooler_is_shown_too(lab, said, monkeypatch):
    text = base64.urlsafe_b64encode((lab.folder / "backend.jwk").read_bytes()).decode()
    kid = json.loads(said("keys", "show").out)["kid"]
    (lab.folder / "backend.jwk").unlink()
    monkeypatch.setenv("PRIVATE_JWK_STR", text)
    assert json.loads(said("keys", "show").out)["kid"] == kid
    assert text not in said("config", "show").out


@pytest.mark.acceptance
def test_a_rotated_credential_takes_its_devices_over_as_it_is_told(lab, said, process, tmp_path):
    """The service manager hands over single files: the old key has to be among them."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    text = lab.settings.replace('key = "backend.jwk"', 'credential = "backend.jwk"')
    (lab.folder / "spooler.toml").write_text(text)

    def run():
        shutil.copy(lab.folder / "backend.jwk", credentials)
        environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
        child = process("run", "--once", cwd=lab.folder, env=environ)
        _, err = child.communicate(timeout=60)
        return child.returncode, err

    assert run()[0] == 0
    told = said("keys", "rotate", lab.folder / "backend.jwk").err
    code, err = run()
    assert code == 78
    assert "rotate with `spooler keys rotate`, which keeps the old key" in err
    name, _, source = told.splitlines()[-1].removeprefix("LoadCredential=").partition(":")
    shutil.copy(source, credentials / name)
    code, err = run()
    assert code == 0, err


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_the_variable_of_sqooler_in_a_file_beside_the_settings(lab, said, quote):
    text = base64.urlsafe_b64encode((lab.folder / "backend.jwk").read_bytes()).decode()
    kid = json.loads(said("keys", "show").out)["kid"]
    (lab.folder / "backend.jwk").unlink()
    (lab.folder / "spooler.toml").write_text(lab.settings.replace('key = "backend.jwk"', ""))
    file = lab.folder / ".env"
    file.write_text(f"# the lab's\nA=b\n\n  PRIVATE_JWK_STR = {quote}{text}{quote}\n")
    file.chmod(0o644)
    refused = said("keys", "show")
    assert (refused.code, "chmod 600" in refused.err) == (78, True)
    file.chmod(0o600)
    assert json.loads(said("keys", "show").out)["kid"] == kid
    shown = said("config", "show").out
    assert f"PRIVATE_JWK_STR in {file}" in shown
    assert text not in shown
    kept = file.read_bytes()
    rotated = said("keys", "rotate", ".env")
    assert (rotated.code, file.read_bytes()) == (78, kept)
    assert "it may contain more than the key" in rotated.err


def test_a_key_in_the_settings_goes_before_that_file(lab, said):
    kid = json.loads(said("keys", "show").out)["kid"]
    (lab.folder / ".env").write_text("PRIVATE_JWK_STR=bm8ga2V5\n")
    assert json.loads(said("keys", "show").out)["kid"] == kid
