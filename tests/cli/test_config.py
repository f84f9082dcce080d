import json
import shutil
import time
import tomllib
from pathlib import Path

import pytest

from spooler import app
from spooler.cli import session

CONFIG = Path(__file__).parents[2] / "config"


def test_the_settings_in_force(lab, said, monkeypatch):
    monkeypatch.setenv("SPOOLER_DAEMON__LEASE", "45s")
    shown = tomllib.loads(said("config", "show").out)
    assert shown["daemon"]["lease"] == 45
    assert shown["storage"]["path"] == str(lab.folder / "storage")
    assert json.loads(said("config", "show", "--json").out)["daemon"]["lease"] == 45


def test_schema_and_examples_are_printed_as_they_are_in_config(said):
    assert said("config", "schema").out == (CONFIG / "spooler.schema.json").read_text()
    assert said("config", "example").out == (CONFIG / "example.toml").read_text()
    assert said("config", "example", "--minimal").out == (CONFIG / "minimal.toml").read_text()


def test_every_mistake_of_a_file_is_told(lab, said):
    (lab.folder / "spooler.toml").write_text("[storage]\ntype = 'memory'\n[log]\nx = 1\ny = 2\n")
    done = said("config", "show")
    assert done.code == 78
    assert len(done.err.splitlines()) == 3


@pytest.mark.parametrize("name", ["example.toml", "minimal.toml"])
def test_the_examples_pass_the_check_in_an_empty_folder(said, tmp_path, name):
    shutil.copy(CONFIG / name, tmp_path)
    done = said("check", "--config", tmp_path / name)
    assert done.code == 0, done.out + done.err
    assert "device singlequdit" in done.out


def test_a_check_that_fails_says_which_and_exits_with_1(lab, said):
    text = lab.settings + '[devices.third]\nhandler = "nowhere:Nothing"\n'
    (lab.folder / "spooler.toml").write_text(text)
    done = said("check", "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert not found["ok"]
    assert [one["name"] for one in found["checks"] if not one["ok"]] == ["device third"]
    lines = said("check").out.splitlines()
    assert any(line.startswith("NO") and "nowhere" in line for line in lines)


def test_a_check_shows_no_secret(lab, said):
    secret = json.loads((lab.folder / "backend.jwk").read_text())["d"]
    assert secret not in said("check").out


def test_a_full_disk_of_our_own_is_said(lab, said, monkeypatch):
    monkeypatch.setattr("spooler.daemon.room._free_bytes", lambda _: 0)
    done = said("check", "--json")
    assert done.code == 1
    (bad,) = [one for one in json.loads(done.out)["checks"] if not one["ok"]]
    assert bad["name"] == "state"
    assert "the disk is full" in bad["detail"]


def test_a_missing_key_is_said_once_and_the_storage_is_looked_at_all_the_same(lab, said):
    (lab.folder / "backend.jwk").unlink()
    done = said("check", "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert [one["name"] for one in found["checks"] if not one["ok"]] == ["key"]


def test_a_program_that_is_not_there_is_told_of_and_keeps_nobody_else_from_starting(lab, said):
    device = '[devices.laser]\nhandler = "command"\noptions = {{ argv = ["{}"] }}\n'
    (lab.folder / "spooler.toml").write_text(lab.settings + device.format("./measure.sh"))
    done = said("check", "--json")
    assert done.code == 0, "one daemon serves many devices, and a disk may be mounted late"
    told = {one["name"]: one["detail"] for one in json.loads(done.out)["checks"]}
    assert "cannot be used now" in told["device laser"]
    assert "program ./measure.sh not found" in told["device laser"]
    (lab.folder / "spooler.toml").write_text(lab.settings + device.format("true"))
    assert "cannot be used now" not in said("check", "--json").out


def test_check_beside_a_service_that_has_the_key(lab, said, monkeypatch):
    text = lab.settings.replace('key = "backend.jwk"', 'credential = "backend.jwk"')
    (lab.folder / "spooler.toml").write_text(text)
    done = said("check")
    assert done.code == 0, done.out
    assert "the systemd credential 'backend.jwk', which the service has" in done.out
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(lab.folder))
    assert "kid " in said("check").out


def test_check_counts_the_files_that_nobody_takes(lab, said):
    queue = lab.folder / "storage" / "jobs" / "queued" / "echo"
    queue.mkdir(parents=True)
    for name in ("my job.json", "a.JSON"):
        (queue / name).write_text("{}")
    done = said("check")
    assert done.code == 0
    assert f"2 files are ignored in {queue}, such as 'a.JSON'" in done.out


def test_a_storage_that_keeps_one_waiting_is_named(lab, said, monkeypatch):
    monkeypatch.setattr(session, "SILENT", 0.05)
    monkeypatch.setattr(app, "open_submitter", lambda *_: Slow())
    done = said("devices")
    assert (done.code, done.err.splitlines()[0]) == (
        0,
        "the storage (sqooler-local) has not answered for 0.05 s; waiting",
    )


class Slow:
    def devices(self, *, count):
        time.sleep(0.3)
        return []

    def close(self):
        pass
