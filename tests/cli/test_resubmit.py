"""`spooler resubmit`: an ended job once more."""

from __future__ import annotations

import json


def test_a_failed_job_runs_again_under_a_new_id(lab, said):
    lab.drain()
    (lab.folder / "job.json").write_text('{"do": "it"}')
    first = said("submit", "echo", "job.json").out.strip()
    refused = said("resubmit", first)
    assert refused.code == 75
    assert f"job {first} is queued, and would run twice" in refused.err
    lab.drain()
    again = said("resubmit", first).out.strip()
    assert again != first
    lab.drain()
    shown = said("result", again, "--json")
    assert json.loads(shown.out)["data"]["echo"] == {"do": "it"}
    assert said("status", first).out.splitlines()[2] == "state    done", (
        "the first one is left as it was"
    )


def test_an_upload_that_was_cut_off_is_brought_back_when_it_is_whole(lab, said):
    lab.drain()
    (lab.folder / "job.json").write_text('{"do": "it"}')
    job = said("submit", "echo", "job.json").out.strip()
    queued = lab.folder / "storage" / "jobs" / "queued" / "echo" / f"{job}.json"
    whole = queued.read_text()
    queued.write_text('{"do" "it"}')
    lab.drain()
    assert said("status", job).out.splitlines()[2] == "state    error"
    refused = said("resubmit", job)
    assert refused.code == 67
    assert "the request of job" in refused.err
    (lab.folder / "storage" / "jobs" / "deleted" / f"{job}.json").write_text(whole)
    again = said("resubmit", job).out.strip()
    lab.drain()
    assert said("status", again).out.splitlines()[2] == "state    done"


def test_an_unknown_job(lab, said):
    lab.drain()
    assert said("resubmit", "0" * 24).code == 67
