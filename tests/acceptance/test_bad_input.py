"""Bad input gets one clear sentence, the evidence is kept, and the loop goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.lab import RABI, Lab, until

pytestmark = pytest.mark.acceptance

DEVICE = "singlequdit"

needs_a_powerless_user = pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs setpriv"
)


def _with(**changes: object) -> bytes:
    return json.dumps({"experiment_0": {**RABI["experiment_0"], **changes}}).encode()


BROKEN = {
    "truncated": (b'{"experiment_0": {"instr', "cut off"),
    "empty": (b"", "empty"),
    "no-json": (b"load 20 atoms please", "not valid JSON"),
    "not-utf-8": (b'{"experiment_0": "\xff\xfe"}', "not valid JSON"),
    "a-list": (b"[1, 2, 3]", "a list"),
    "nan": (b'{"experiment_0": {"shots": NaN}}', "NaN"),
    "infinite-number": (b'{"experiment_0": {"shots": 1e999}}', "that large"),
    "deep": (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
    "deep-in-an-object": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deeply"),
    "ten-megabytes": (b'{"experiment_0": "' + b"x" * 10_000_000 + b'"}', "at most 4194304"),
    "no-experiment": (b"{}", "experiment"),
    "wrong-name": (b'{"trial_0": {}}', "trial_0"),
    "wrong-type": (_with(shots="many"), "shots"),
    "negative-shots": (_with(shots=-1), "shots"),
    "unknown-gate": (_with(instructions=[["teleport", [0], []]]), "teleport"),
    "wrong-wire": (_with(instructions=[["rlx", [7], [1.0]]]), "wire"),
    "too-many-atoms": (_with(instructions=[["load", [0], [501]]]), "500"),
    "instruction-of-two": (_with(instructions=[["rlx", [0]]]), "instruction"),
}


@pytest.fixture
def running(lab: Lab) -> Lab:
    lab.run(lab.configure())
    return lab


def _drop(lab: Lab, content: bytes, name: str | None = None, *, old: bool = True) -> Path:
    """A job file as some program left it, a while ago unless said otherwise."""
    place = lab.queue(DEVICE, name)
    place.write_bytes(content)
    if old:
        then = time.time() - 3600
        os.utime(place, (then, then))
    return place


def _evidence(lab: Lab, place: Path) -> Path:
    """The job file in jobs/deleted: it is moved there as the last step, after the status."""
    kept = lab.storage / "jobs" / "deleted" / place.name
    until(kept.exists, f"the evidence {kept}")
    return kept


def test_each_broken_job_ends_with_a_reason(running: Lab) -> None:
    """All of them in one queue, good ones in between: nothing stops the loop."""
    dropped = {}
    for name, (content, _) in BROKEN.items():
        dropped[name] = _drop(running, content)
        running.submit(RABI, DEVICE)
    for name, place in dropped.items():
        status = running.ended(DEVICE, place.stem)
        assert status["status"] == "ERROR", name
        assert status["job_id"] == place.stem, name
        reason = status["error_message"]
        assert BROKEN[name][1] in reason, f"{name}: {reason}"
        assert "Traceback" not in reason
        assert "\n" not in reason
        assert len(reason) < 1500, name
        evidence = _evidence(running, place)
        assert evidence.read_bytes() == BROKEN[name][0], name
    good = running.submit(RABI, DEVICE)
    assert running.ended(DEVICE, good)["status"] == "DONE"


def test_a_job_still_being_written_is_waited_for(running: Lab) -> None:
    """sqooler's client writes in place: half a file is not a broken job."""
    content = json.dumps(RABI).encode()
    place = running.queue(DEVICE)
    with place.open("wb") as stream:
        stream.write(content[:40])
        stream.flush()
        os.fsync(stream.fileno())
        time.sleep(0.7)  # several polls of the daemon, well below what makes a file settled
        assert place.exists(), "half a job was taken"
        stream.write(content[40:])
    assert running.ended(DEVICE, place.stem)["status"] == "DONE"


def test_a_fresh_truncated_job_ends_when_it_has_settled(running: Lab) -> None:
    place = _drop(running, b'{"experiment_0": ', old=False)
    assert "cut off" in running.ended(DEVICE, place.stem)["error_message"]


def test_once_ends_a_fresh_broken_job_too(lab: Lab) -> None:
    """Called again and again by cron, it must not leave it for half written each time."""
    place = _drop(lab, b'{"experiment_0": ', old=False)
    process = lab.run(lab.configure(), "--once", ready=False)
    assert process.end() == 0
    assert "cut off" in lab.ended(DEVICE, place.stem)["error_message"]


@needs_a_powerless_user
def test_once_says_which_jobs_it_leaves(lab: Lab) -> None:
    place = _drop(lab, json.dumps(RABI).encode())
    place.chmod(0)
    process = lab.run(lab.configure(), "--once", ready=False, powerless=True)
    assert process.end() == 75
    assert "1 queued job" in process.events("daemon.stopping")[0]["reason"]
    assert process.events("daemon.stopped")[0]["queued"] == 1
    place.chmod(0o600)
    assert lab.run(lab.configure(), "--once", ready=False).end() == 0


def test_foreign_files_are_left_alone(running: Lab) -> None:
    queue = running.queue(DEVICE).parent
    foreign = {
        "README.txt": b"hello",
        ".hidden.json": b"{}",
        "job.json.part": b"{",
        "with blank.json": b"{}",
        "x" * 150 + ".json": b"{}",
        "ümlaut.json": b"{}",
        "..json": b"{}",
    }
    for name, content in foreign.items():
        (queue / name).write_bytes(content)
    (queue / "folder.json").mkdir()
    (queue / "link.json").symlink_to(queue / "README.txt")
    for number in range(500):
        (queue / f"scan-{number}.tif").write_bytes(b"")
    assert running.ended(DEVICE, running.submit(RABI, DEVICE))["status"] == "DONE"
    for name, content in foreign.items():
        assert (queue / name).read_bytes() == content
    assert (queue / "folder.json").is_dir()
    assert (queue / "link.json").is_symlink()


def test_an_id_that_is_no_id(running: Lab) -> None:
    for name in ("myjob", "ABCDEF0123456789ABCDEF01", "job-20240101-singlequdit-alice-1a2b3"):
        place = _drop(running, json.dumps(RABI).encode(), name)
        status = running.ended(DEVICE, place.stem)
        assert status["status"] == "ERROR"
        assert "24 hex digits" in status["error_message"]
        assert _evidence(running, place).exists()


def test_a_missing_status_is_made(running: Lab) -> None:
    place = _drop(running, json.dumps(RABI).encode())
    assert running.ended(DEVICE, place.stem)["status"] == "DONE"


def test_a_result_that_is_there_already_is_kept_beside(running: Lab) -> None:
    place = running.queue(DEVICE)
    older = running.storage / "results" / DEVICE / place.name
    older.parent.mkdir(parents=True, exist_ok=True)
    older.write_text('{"by": "somebody else"}')
    place.write_text(json.dumps(RABI))
    assert running.ended(DEVICE, place.stem)["status"] == "DONE"
    assert "payload" in json.loads(older.read_text())
    (kept,) = (running.storage / "spooler" / "replaced" / DEVICE).iterdir()
    assert kept.read_text() == '{"by": "somebody else"}'


def test_a_half_written_configuration_of_another_program(lab: Lab) -> None:
    place = lab.storage / "backends" / "configs" / f"{DEVICE}.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"description": "half wri')
    lab.run(lab.configure())
    assert lab.ended(DEVICE, lab.submit(RABI, DEVICE))["status"] == "DONE"
    assert json.loads(place.read_text())["payload"]["display_name"] == DEVICE


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk(lab: Lab, tmp_path: Path) -> None:
    """Nothing is lost while the storage's disk is full, and all goes on when there is room."""
    lab.storage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,nr_inodes=4000", "small", str(lab.storage)]
    subprocess.run(mount, check=True)
    try:
        process = lab.run(lab.configure())
        filler = lab.storage / "filler"
        ids = [lab.submit(RABI, DEVICE)]
        lab.ended(DEVICE, ids[0])
        with pytest.raises(OSError, match="No space"):  # noqa: SIM117 - the write may fail, or the close
            with filler.open("wb") as stream:
                while True:
                    stream.write(b"x" * 4096)
        inside = lab.queue(DEVICE)
        spare = tmp_path / "job"
        spare.write_text(json.dumps(RABI))
        _cram(spare, inside, filler)
        told = process.wait_for("storage.unavailable")
        assert "full" in told["error"]
        assert lab.status_document(DEVICE, inside.stem) is None
        filler.unlink()
        assert lab.ended(DEVICE, inside.stem)["status"] == "DONE"
        assert process.stop() == 0
    finally:
        lab.close()
        subprocess.run(["umount", "-l", str(lab.storage)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk_of_our_own(lab: Lab) -> None:
    """No job is begun whose report could not be kept; the queue waits, and is told why."""
    state = lab.folder / "spooler-state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", str(state)], check=True)
    try:
        process = lab.run(lab.configure())
        lab.ended(DEVICE, lab.submit(RABI, DEVICE))
        filler = state / "filler"
        with pytest.raises(OSError, match="No space"):  # noqa: SIM117 - the write may fail, or the close
            with filler.open("wb") as stream:
                while True:
                    stream.write(b"x" * 4096)
        waiting = lab.submit(RABI, DEVICE)
        told = process.wait_for("disk.full")
        assert "the disk is full; free some space" in told["error"]
        assert lab.queue(DEVICE, waiting).exists(), "it was claimed"
        filler.unlink()
        assert lab.ended(DEVICE, waiting)["status"] == "DONE"
        process.wait_for("disk.recovered")
        assert len(process.events("disk.full")) == 1
        assert process.stop() == 0
    finally:
        lab.close()
        subprocess.run(["umount", "-l", str(state)], check=True)


def _cram(source: Path, target: Path, filler: Path) -> None:
    """Put one small file on the full disk: give up just enough of the filler for it."""
    for _ in range(10):
        try:
            target.write_bytes(source.read_bytes())
        except OSError:
            os.truncate(filler, filler.stat().st_size - 4096)
        else:
            return
    raise AssertionError("the job does not fit")


@needs_a_powerless_user
def test_permission_denied(lab: Lab) -> None:
    """A storage that may not be read is away, not the end."""
    process = lab.run(lab.configure(), powerless=True)
    queue = lab.queue(DEVICE).parent
    lab.ended(DEVICE, lab.submit(RABI, DEVICE))
    queue.chmod(0)
    told = process.wait_for("queue.unavailable")
    assert "permission denied" in told["error"]
    queue.chmod(0o755)
    assert lab.ended(DEVICE, lab.submit(RABI, DEVICE))["status"] == "DONE"
    assert process.stop() == 0


@needs_a_powerless_user
def test_an_outbox_that_may_not_be_read_is_not_an_empty_one(lab: Lab) -> None:
    """Its reports would count as lost, and their jobs as failed, by who starts without them."""
    config = lab.configure()
    assert lab.run(config, "--once", ready=False).end() == 0
    records = lab.folder / "spooler-state" / "records"
    records.mkdir(exist_ok=True)
    records.chmod(0)
    process = lab.run(config, "--once", ready=False, powerless=True)
    assert process.end() == 69
    assert f"{records}" in process.text()
    assert "permission denied" in process.text()
    records.chmod(0o750)
