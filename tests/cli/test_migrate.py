"""`spooler migrate` and, after it, every submitter's command on MongoDB."""

from __future__ import annotations

import json
import os
import re
import shutil
from types import SimpleNamespace

import pytest

from tests.servers.mongodb import mongo_prefix, mongodb_server

__all__ = ["mongo_prefix", "mongodb_server"]

MONGODB = """\
[storage]
type = "sqooler-mongodb"
uri = "{uri}"
prefix = "{prefix}"

[signing]
key = "backend.jwk"

[devices.echo]
handler = "echo"
isolation = "thread"
"""


@pytest.fixture
def mongodb(lab, used, mongodb_server, mongo_prefix):
    """A second settings file beside the lab's own, for a server."""
    file = lab.folder / "mongodb.toml"
    file.write_text(MONGODB.format(uri=mongodb_server.uri, prefix=mongo_prefix))
    return file


@pytest.fixture
def stored(mongodb_server, mongo_prefix):
    """How many documents there are in a collection."""

    def stored(database, collection):
        return mongodb_server.client[mongo_prefix + database][collection].count_documents({})

    return stored


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the first test has made for all others: a folder, and the ids in it."""
    return SimpleNamespace(folder=tmp_path_factory.mktemp("made") / "lab", jobs=[])


@pytest.fixture
def used(lab, said, made):
    """A folder storage with a job that is done, one that failed, and one that waits."""
    if not made.jobs:
        lab.drain()
        (lab.folder / "job.json").write_text('{"a": 1.5}')
        jobs = [said("submit", device, "job.json").out.strip() for device in ("echo", "broken")]
        lab.drain()
        jobs.append(said("submit", "echo", "job.json").out.strip())
        shutil.copytree(lab.folder, made.folder)
        made.jobs = jobs
    shutil.copytree(made.folder, lab.folder, dirs_exist_ok=True)
    return made.jobs


def test_a_used_storage_moves_and_its_users_see_no_difference(lab, said, used, mongodb):
    done, failed, waiting = used
    moved = said("migrate", "storage", mongodb, "--move")
    assert moved.code == 0, moved.err
    assert "removed from the source" in moved.out
    assert said("devices").out == ""
    there = ("--config", mongodb)
    assert said("devices", *there).out.count(" ago") == 2
    assert "state    done" in said("status", done, *there).out
    assert json.loads(said("result", done, *there).out) == {"echo": {"a": 1.5}}
    assert said("verify", done, *there).out.startswith("verified:")
    assert "the laser is off" in said("status", failed, *there).out
    assert "state    queued" in said("status", waiting, *there).out
    back = said("migrate", mongodb, "storage", "--move")
    assert back.code == 0, back.err
    lab.drain()
    assert json.loads(said("result", waiting).out) == {"echo": {"a": 1.5}}


def test_a_submitters_commands_on_mongodb(lab, said, used, mongodb):
    said("migrate", "storage", mongodb)
    there = ("--config", mongodb)
    (lab.folder / "job.json").write_text('{"b": 2}')
    job = said("submit", "echo", "job.json", *there).out.strip()
    assert "state    queued" in said("status", job, *there).out
    assert json.loads(said("status", job, "--json", "-d", "echo", *there).out)["state"] == "queued"
    assert said("result", job, *there).code == 75
    assert said("verify", job, *there).code == 75
    assert "withdrawn" in said("cancel", job, *there).out
    assert "withdrawn" in said("cancel", job, *there).out, "harmless to repeat"
    assert "cancellation" in said("status", job, *there).out
    assert said("cancel", used[0], *there).code == 1
    assert said("status", "a" * 24, *there).code == 67
    assert said("status", "not-an-id", "-d", "echo", *there).code == 67
    refused = said("submit", "laser", "job.json", *there)
    assert refused.code == 67
    assert "announced devices: broken, echo" in refused.err


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize("payload", ['{"a.b": 1}', '{"$a": 1}', '{"n": 123456789012345678901}'])
def test_a_job_that_mongodb_cannot_hold_is_refused_and_leaves_nothing(
    lab, said, mongodb, stored, payload
):
    said("migrate", "storage", mongodb)
    before = stored("status", "echo")
    (lab.folder / "job.json").write_text(payload)
    done = said("submit", "echo", "job.json", "--config", mongodb)
    assert done.code == 65
    assert "cannot be stored in MongoDB" in done.err
    assert stored("status", "echo") == before


def many(folder, jobs, ended):
    """Documents enough for several lines of progress; the ids of the waiting jobs, in order."""
    for path in ("jobs/queued/echo", "jobs/finished/echo", "status/echo"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    waiting = [f"{number:024x}" for number in range(jobs)]
    for number, job in enumerate(waiting):
        place = folder / f"jobs/queued/echo/{job}.json"
        place.write_text(json.dumps({"number": number}))
        os.utime(place, (1_700_000_000 + number,) * 2)
    for number in range(ended):
        job = f"{0xE000 + number:024x}"
        (folder / f"jobs/finished/echo/{job}.json").write_text(json.dumps({"number": number}))
        status = {"job_id": job, "status": "DONE", "detail": "", "error_message": "None"}
        (folder / f"status/echo/{job}.json").write_text(json.dumps(status))
    return waiting


def killed_at(process, folder, line, *arguments):
    """Run a command and kill it when it has said this many lines; None, or what it said at last."""
    child = process(*arguments, cwd=folder)
    for number, said in enumerate(child.stderr):
        assert re.search(r"^migrating |/echo: \d+ of \d+$", said), said
        if number == line:
            child.kill()
            child.wait()
            return None
    assert child.wait() == 0
    return child.stdout.read()


@pytest.mark.timeout(300)
def test_killed_again_and_again_it_goes_on_both_ways(
    lab, process, mongodb_server, mongo_prefix, mongodb
):
    """SIGKILL at one line of the progress after the other, there and back again."""
    shutil.rmtree(lab.folder / "storage")
    waiting = many(lab.folder / "storage", 130, 110)
    for ends in (("storage", mongodb), (mongodb, "storage")):
        for line in range(1, 40, 2):
            said = killed_at(process, lab.folder, line, "migrate", *ends, "--move")
            if said is not None:
                break
        assert line > 5, "it was hardly ever interrupted"
        if ends[0] == "storage":
            queue = mongodb_server.client[f"{mongo_prefix}jobs"]["queued.echo"]
            assert [str(each["_id"]) for each in queue.find()] == waiting, "the order is lost"
            assert [each["number"] for each in queue.find()] == list(range(130))
            assert not list((lab.folder / "storage").rglob("*.json"))
    places = sorted((lab.folder / "storage/jobs/queued/echo").glob("*.json"), key=_age)
    assert [place.stem for place in places] == waiting
    assert len(list((lab.folder / "storage/jobs/finished/echo").glob("*.json"))) == 110
    assert len(list((lab.folder / "storage/status/echo").glob("*.json"))) == 110
    assert queue.count_documents({}) == 0


def _age(place):
    return place.stat().st_mtime_ns


def test_it_may_be_run_again_and_says_so_as_json(said, used, mongodb):
    first = json.loads(said("migrate", "storage", mongodb, "--json").out)
    second = json.loads(said("migrate", "storage", mongodb, "--json").out)
    assert first["copied"] == second["present"] > 0
    assert first["sha256"] == second["sha256"]


def test_what_stays_is_told(lab, said, used, mongodb):
    queue = lab.folder / "storage/jobs/queued/echo"
    (queue / "by-hand.json").write_text("{}")
    done = said("migrate", "storage", mongodb)
    assert done.code == 1
    assert "stays: jobs/queued/echo/by-hand: the id 'by-hand' is not usable" in done.err


def test_while_jobs_run_it_refuses(lab, said, used, mongodb):
    claims = lab.folder / "storage/spooler/claims/echo"
    (claims / f"{'a' * 24}.1.ab.cd.c0-30000").write_text("{}")
    done = said("migrate", "storage", mongodb)
    assert done.code == 1
    assert "nothing was done: 1 jobs of the source are running" in done.err
    done = said("migrate", "storage", mongodb, "--force")
    assert done.code == 0
    assert "1 running jobs stay" in done.err


@pytest.mark.usefixtures("used")
def test_a_server_that_is_away(said, mongodb_server, mongodb):
    text = mongodb.read_text() + "[daemon]\nlease = 30\n"
    mongodb.write_text(text.replace("[signing]", "operation_timeout = 0.6\n[signing]", 1))
    mongodb_server.kill()
    for command in (["devices", "--config", mongodb], ["migrate", "storage", mongodb, "--move"]):
        done = said(*command)
        assert done.code == 69
        assert "cannot be reached" in done.err
        assert done.err.count("\n") <= 2
    assert "run the same command again" in done.err
    mongodb_server.start()
    assert said("migrate", "storage", mongodb, "--move").code == 0


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    ("ends", "code", "reason"),
    [
        (("nowhere", "storage"), 78, "folder nowhere not found"),
        (("storage", "storage"), 78, "the same storage"),
        (("storage", "nowhere.toml"), 78, "no settings file"),
        (("storage", "mongodb://u:s3cr/et@h:x/"), 78, "cannot be read"),
        (("storage", "http://u:s3cret@h/x"), 78, "http://h/x is not a storage"),
        (("storage", "/proc/nowhere"), 78, "cannot be created there"),
        (("storage",), 2, "TARGET"),
    ],
)
def test_places_that_are_none(said, ends, code, reason):
    done = said("migrate", *ends)
    assert done.code == code
    assert reason in done.err
    assert "s3cr" not in done.err + done.out


def test_a_source_without_anything_is_told(said, tmp_path):
    (tmp_path / "wrong").mkdir()
    done = said("migrate", tmp_path / "wrong", tmp_path / "target")
    assert done.code == 0
    assert "nothing was found" in done.err


def test_the_environment_speaks_of_the_server_only(lab, said, used, mongodb, monkeypatch):
    shutil.copy(lab.folder / "spooler.toml", lab.folder / "folder.toml")
    monkeypatch.setenv("SPOOLER_STORAGE__AUTH_SOURCE", "admin")
    assert said("migrate", "folder.toml", mongodb).code == 0
