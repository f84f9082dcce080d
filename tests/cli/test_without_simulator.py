"""Without the extra `simulator`: numpy and scipy cannot be imported, here and in every child."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = "the handler singlequdit needs numpy and scipy: pip install numpy scipy."
HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"numpy", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
IMPORT_ALL = """
import importlib, pkgutil, spooler

for module in pkgutil.walk_packages(spooler.__path__, "spooler."):
    if not module.name.startswith(("spooler.testing", "spooler.__main__")):
        try:
            importlib.import_module(module.name)
        except Exception:
            print(module.name)
"""


@pytest.fixture
def python(tmp_path):
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(HIDE)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "hide"), str(ROOT)])}

    def run(*words):
        return subprocess.run(
            [sys.executable, *words],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_check_says_how_to_install_it(python, tmp_path, isolation):
    example = python("-m", "spooler", "config", "example").stdout
    chosen = example.replace('isolation = "process"', f'isolation = "{isolation}"')
    (tmp_path / "spooler.toml").write_text(chosen)
    assert f'isolation = "{isolation}"' in chosen
    checked = python("-m", "spooler", "check")
    assert checked.returncode == 1
    assert NEEDS in checked.stdout
    assert checked.stdout.count("NO ") == 1
    assert checked.stderr == ""


def test_the_demo_says_so_before_it_starts_anything(python):
    shown = python("-m", "spooler", "demo")
    assert shown.returncode == 78
    assert shown.stderr == f"spooler: {NEEDS}\n"
    assert shown.stdout == ""


def test_nothing_else_needs_them(python):
    failed = python("-c", IMPORT_ALL)
    assert failed.stdout.split() == [
        "spooler.devices.handlers.singlequdit",
        "spooler.devices.handlers.spin",
    ]
