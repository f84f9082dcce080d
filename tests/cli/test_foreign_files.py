"""Files that strangers put into a storage's folder: each command answers, and shows no secret."""

from __future__ import annotations

import os

import pytest

from spooler.storage.sqooler.client import local

JOB = "a" * 24


@pytest.fixture
def storage(lab, said):
    lab.drain()
    for kind in ("results", "status"):
        (lab.folder / "storage" / kind / "echo").mkdir(parents=True, exist_ok=True)
    return lab.folder / "storage"


def everything(said, lab):
    """What all commands say about the planted job and the devices."""
    commands = [["devices"], ["devices", "--json"], ["migrate", "storage", "copy"]]
    for command in ("status", "result", "verify"):
        commands += [[command, JOB, "--device", "echo", *more] for more in ([], ["--json"])]
    done = [said(*command) for command in commands]
    assert all(one.code != 70 for one in done), "a bug"
    copied = "".join(file.read_text() for file in (lab.folder / "copy").rglob("*.json"))
    return "".join(one.out + one.err for one in done) + copied


PLACES = [f"results/echo/{JOB}.json", f"status/echo/{JOB}.json", "backends/configs/zzz.json"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("plant", [os.symlink, os.link], ids=["link", "hard link"])
def test_the_private_key_comes_out_nowhere(storage, said, lab, place, plant):
    key = lab.folder / "backend.jwk"
    secret = key.read_text().split('"d"')[1].split('"')[1]
    assert len(secret) > 20
    plant(key, storage / place)
    assert secret not in everything(said, lab)


@pytest.mark.parametrize("place", PLACES)
def test_a_pipe_keeps_nobody(storage, said, lab, place):
    os.mkfifo(storage / place)
    assert everything(said, lab)


@pytest.mark.parametrize("place", PLACES)
def test_a_file_without_end_is_not_read_to_it(storage, said, lab, place, monkeypatch):
    """A sparse file costs its maker nothing."""
    with (storage / place).open("wb") as file:
        file.truncate(2**40)
    monkeypatch.setattr(local, "LARGEST", 2**20)  # the same rule, in less memory
    assert everything(said, lab)
