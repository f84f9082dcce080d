"""`spooler audit verify` on what a real daemon wrote."""

import json


def test_the_trail_of_a_job(lab, said):
    empty = said("audit", "verify")
    assert (empty.code, "audit trail is missing" in empty.err) == (1, True)
    lab.drain()
    (lab.folder / "job.json").write_text("{}")
    job = said("submit", "echo", "job.json").out.strip()
    lab.drain()
    done = said("audit", "verify")
    assert done.code == 0, done.out
    assert "whole" in done.out
    place = lab.folder / "spooler-state" / "audit" / "audit-000001.jsonl"
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    told = [line["what"] for line in lines if line.get("job") == job]
    assert told == ["job.claimed", "job.started", "report.delivered", "job.finished"]
    (delivered,) = [line for line in lines if line["what"] == "report.delivered"]
    assert len(delivered["digest"]) == 64
    assert lines[-1]["what"] == "audit.checkpoint", "an orderly stop signs"


def test_tampering_is_told(lab, said):
    lab.drain()
    place = lab.folder / "spooler-state" / "audit" / "audit-000001.jsonl"
    first, *rest = place.read_text().splitlines(keepends=True)
    place.write_text(first.replace("daemon.started", "daemon.stopped") + "".join(rest))
    done = said("audit", "verify")
    assert done.code == 1
    assert "was edited, or lines before it were removed" in done.out
    found = json.loads(said("audit", "verify", "--json").out)
    assert found["problems"]
