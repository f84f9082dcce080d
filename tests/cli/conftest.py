import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from spooler.cli import main

ROOT = Path(__file__).parents[2]

SETTINGS = """\
[daemon]
poll_interval = "50ms"
grace = "2s"

[storage]
type = "sqooler-local"
path = "storage"
fsync = false

[signing]
key = "backend.jwk"

[devices.echo]
handler = "echo"
isolation = "thread"

[devices.broken]
handler = "echo"
isolation = "thread"
options = { fail = "the laser is off" }
"""


@pytest.fixture
def said(capsys):
    """Run a command in this process: exit code, stdout, stderr. No traceback, ever."""

    def said(*arguments):
        capsys.readouterr()
        code = main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return SimpleNamespace(code=int(code), out=out, err=err)

    return said


@pytest.fixture
def process():
    """Start a command as a process of its own, without settings from our environment."""
    started = []

    def process(*arguments, **options):
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SPOOLER_")}
        environ |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | options.pop("env", {})
        defaults = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        child = subprocess.Popen(
            [sys.executable, "-m", "spooler", *map(str, arguments)],
            env=environ,
            text=True,
            **(defaults | options),
        )
        started.append(child)
        return child

    yield process
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def lab(tmp_path, monkeypatch, said, process):
    """A folder with settings and a key, the working folder; `lab.drain()` runs the daemon."""
    monkeypatch.chdir(tmp_path)
    for name in ("SPOOLER_CONFIG", "PRIVATE_JWK_STR", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "spooler.toml").write_text(SETTINGS)
    assert said("keys", "generate").code == 0

    def drain():
        child = process("run", "--once", cwd=tmp_path)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        return err

    return SimpleNamespace(folder=tmp_path, drain=drain, settings=SETTINGS)
