import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spooler.settings import load

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "spooler.service"


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # verify wants the programs to be there; ours is where pip has put it.
    (tmp_path / "spooler").write_text("#!/bin/sh\n")
    (tmp_path / "spooler").chmod(0o755)
    unit = tmp_path / "spooler.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/spooler", str(tmp_path / "spooler")))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_of_the_unit_are_commands_of_spooler(said, tmp_path):
    lines = re.findall(r"^Exec\w+=/usr/local/bin/spooler (.*)$", UNIT.read_text(), re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["run"]
    for line in lines:
        assert said(*line.split()[:1], "--help").code == 0
        assert "--config" in said(*line.split()[:1], "--help").out


def test_the_unit_waits_longer_than_the_daemon_takes_to_stop(tmp_path):
    file = tmp_path / "spooler.toml"
    file.write_text((ROOT / "config/example.toml").read_text())
    unit = dict(re.findall(r"^(\w+)=(\d+)$", UNIT.read_text(), re.MULTILINE))
    settings = load(file, {})
    device = settings.devices["singlequdit"]
    assert int(unit["TimeoutStopSec"]) > settings.daemon.grace + device.grace


def test_the_settings_that_the_unit_speaks_of(tmp_path):
    text = UNIT.read_text()
    credential = re.search(r"^LoadCredential=(\S+?):", text, re.MULTILINE)[1]
    assert f'credential = "{credential}"' in text
    assert 'state = "/var/lib/spooler"' in text
    file = tmp_path / "spooler.toml"
    file.write_text(
        f'state = "/var/lib/spooler"\n[storage]\ntype = "memory"\n'
        f'[signing]\ncredential = "{credential}"\n'
    )
    signing = load(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).signing
    assert signing.source() == tmp_path / credential


def test_module_and_script_are_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "spooler", "--version"], capture_output=True, cwd=ROOT, check=True
    )
    assert done.stdout.startswith(b"spooler ")
