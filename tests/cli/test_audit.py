"""`spooler audit verify` on what a real daemon wrote."""

import json

from spooler.observe.audit import BEGIN, CHECKPOINT, digest


def test_the_trail_of_a_job(lab, said):
    empty = said("audit", "verify")
    assert (empty.code, "no audit trail found" in empty.err) == (1, True)
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


def rewritten(place, *, keep):
    """The trail as somebody without a key writes it anew; `keep` the checkpoints, unsigned."""
    head, number, lines = BEGIN, 0, []
    for line in place.read_text().splitlines():
        said = json.loads(line)
        said.pop("jws", None)
        if said["what"] == CHECKPOINT and not keep:
            continue
        number += 1
        text = json.dumps({**said, "n": number, "prev": head}, separators=(",", ":"))
        head = digest(text.encode())
        lines.append(text + "\n")
    place.write_text("".join(lines))


def test_a_trail_that_was_written_anew_without_the_key_is_told(lab, said):
    lab.drain()
    place = lab.folder / "spooler-state" / "audit" / "audit-000001.jsonl"
    rewritten(place, keep=True)
    done = said("audit", "verify")
    assert done.code == 1
    assert "unsigned although a signing key is configured" in done.out


def test_a_key_that_is_new_vouches_for_what_was_before_it(lab, said):
    settings = lab.folder / "spooler.toml"
    signed = settings.read_text()
    settings.write_text(signed.replace('[signing]\nkey = "backend.jwk"\n', ""))
    lab.drain()
    assert said("audit", "verify").code == 0, "without a key nothing is to be signed"
    settings.write_text(signed)
    lab.drain()
    done = said("audit", "verify")
    assert done.code == 0, done.out
