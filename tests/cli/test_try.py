"""`spooler try`: a payload through a handler, as the daemon runs it."""

from __future__ import annotations

import json

import pytest

from spooler.app.state_lock import StateLock
from spooler.settings import find, load

HANDLER = """
import pathlib

class Camera:
    params = dict

    def __init__(self):
        self.runs = 0

    def open(self):
        pass

    def run(self, params, context):
        self.runs += 1
        print("exposing")
        context.progress("half-way")
        (context.scratch / "shot.h5").write_bytes(b"12345")
        context.publish(pathlib.Path("shot.h5"))
        if "nan" in params:
            return {"mean": float("nan")}
        if "fail" in params:
            raise ValueError("the shutter is stuck")
        return {"run": self.runs, "got": params}

    def close(self):
        pass
"""


@pytest.fixture
def payload(lab):
    (lab.folder / "camera.py").write_text(HANDLER)

    def write(**content):
        (lab.folder / "payload.json").write_text(json.dumps(content))
        return "payload.json"

    return write


def test_a_handler_without_settings(lab, said, payload):
    done = said("try", "camera:Camera", payload(x=1), "--json", "--times", "2")
    assert done.code == 0, done.err
    first, second = json.loads(done.out)["runs"]
    assert (first["state"], first["data"]) == ("done", {"run": 1, "got": {"x": 1}})
    assert [(each["path"], each["size"]) for each in first["artifacts"]] == [("shot.h5", 5)]
    assert second["data"]["run"] == 2, "the same handler, opened once"
    assert "| exposing" in done.err
    assert "... half-way" in done.err


def test_a_device_of_the_settings_and_no_trace_of_it(lab, said, payload):
    done = said("try", "echo", payload(x=1))
    assert done.code == 0, done.err
    assert '"x": 1' in done.out
    assert "run 1: done in" in done.err
    assert not (lab.folder / "storage").exists(), "no queue, no announcement"


def test_what_would_fail_in_the_daemon_fails_here(lab, said, payload):
    done = said("try", "camera:Camera", payload(nan=1))
    assert done.code == 1
    assert "run 1: error in" in done.err
    assert "the result's data mean is not a finite number" in done.err
    done = said("try", "camera:Camera", payload(fail=1))
    assert (done.code, "the shutter is stuck" in done.err) == (1, True)


def test_a_device_that_a_daemon_has_is_left_to_it(lab, said, payload):
    """Nobody is told to kill the handler of a daemon that runs."""
    lock = StateLock(load(find({}), {}).state)
    try:
        done = said("try", "echo", payload(x=1))
    finally:
        lock.close()
    assert done.code == 75
    assert "a daemon is running and has the device echo; stop it first" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert said("try", "echo", payload(x=1)).code == 0


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("toaster", "the settings have no device 'toaster' (known: broken, echo)"),
        ("camera:Kamera", "camera has no Kamera; did you mean Camera"),
        ("nowhere:Thing", "nowhere"),
    ],
)
def test_wrong_names(said, payload, what, sentence):
    done = said("try", what, payload(x=1))
    assert (done.code, sentence in done.err) == (78, True), done.err
    assert len(done.err.strip().splitlines()) == 1
