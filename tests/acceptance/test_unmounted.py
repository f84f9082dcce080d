"""A daemon that begins while its storage is not mounted yet."""

from __future__ import annotations

from tests.acceptance.lab import Lab, kept, parked, until


def test_what_waits_in_the_outbox_is_delivered_once_the_storage_is_there(lab: Lab) -> None:
    """The machine went down with a report in the outbox, and the disk is mounted after us."""
    config = lab.counting(seconds=3.0)
    process = lab.run(config)
    job_id = lab.submit({})
    until(lambda: lab.book("run"), "the run")
    away = lab.folder / "away"
    lab.storage.rename(away)
    state = lab.folder / "spooler-state"
    until(lambda: kept(state), "the report on the daemon's disk")
    process.process.kill()
    process.end()
    lab.storage.mkdir()
    process = lab.run(config)
    assert process.wait_for("storage.unavailable")
    assert list(lab.storage.iterdir()) == [], "nothing is made in the place of the mount"
    assert not parked(state)
    lab.storage.rmdir()
    away.rename(lab.storage)
    assert lab.ended("counter", job_id)["status"] == "DONE"
    assert len(lab.book("run")) == 1
    assert process.stop() == 0
