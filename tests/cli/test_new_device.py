import subprocess
import sys

import pytest


def test_the_new_handler_passes_the_check(lab, said, process):
    done = said("new-device", "laser")
    assert done.code == 0
    assert done.out == "laser.py\n"
    section = done.err[done.err.index("[devices.laser]") : done.err.index("and keep the file")]
    (lab.folder / "spooler.toml").write_text(lab.settings + section)
    child = process("check", cwd=lab.folder)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, out + err
    assert "device laser" in out


def test_a_file_that_is_there_is_never_overwritten(said, tmp_path):
    (tmp_path / "laser.py").write_text("years of work\n")
    done = said("new-device", "laser", "--folder", tmp_path)
    assert done.code == 73
    assert "was not changed" in done.err
    assert (tmp_path / "laser.py").read_text() == "years of work\n"


@pytest.mark.parametrize("name", ["Laser", "../laser", "9laser", "class", "a-b", "", "json"])
def test_names_that_cannot_be_a_device_and_a_module(said, tmp_path, name):
    done = said("new-device", name, "--folder", tmp_path)
    assert done.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(said, tmp_path):
    done = said("new-device", "laser", "--folder", tmp_path / "file" / "x")
    assert done.code == 0
    (tmp_path / "plain").write_text("")
    done = said("new-device", "laser", "--folder", tmp_path / "plain")
    assert done.code == 73


def test_what_is_written_is_python(said, tmp_path):
    said("new-device", "laser", "--folder", tmp_path)
    subprocess.run([sys.executable, "-m", "py_compile", tmp_path / "laser.py"], check=True)
