"""The whole daemon in this process, wired by its settings, on memory storages."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spooler.app import Daemon, RunOptions
from spooler.app.parts import open_storage, queues
from spooler.clock import SystemClock
from spooler.errors import ConfigError
from spooler.model.claim import Lease
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.model.state import State
from spooler.observe.board import Board
from spooler.observe.events import EventName, Observation, Observer
from spooler.observe.notify import ServiceManager
from spooler.protocols import Backend, Submitter
from spooler.settings import Settings
from spooler.storage import open_submitter
from spooler.testing.bench import new_token
from tests.daemon.parts import die


@dataclass
class Lab:
    """Two memory storages of this process, and a device that serves a queue of each."""

    folder: Path
    name: str
    seen: list[Observation] = field(default_factory=list)

    def settings(self, **device: Any) -> Settings:
        return Settings.model_validate(
            {
                "state": str(self.folder / "state"),
                "storages": {
                    each: {"type": "memory", "name": f"{self.name}{each}"}
                    for each in ("lab", "frb")
                },
                "devices": {
                    "cryo-fridge": {
                        "handler": "echo",
                        "isolation": "thread",
                        "queues": ["lab", "frb:champss-fold"],
                        **device,
                    }
                },
            }
        )

    def submitter(self, storage: str) -> Submitter:
        return open_submitter(self.settings().feeds()[storage], SystemClock())

    def backend(self, storage: str) -> Backend:
        settings, clock = self.settings(), SystemClock()
        return open_storage(settings, settings.feeds()[storage], clock, None)

    def submit(self, storage: str, queue: str) -> str:
        catalogue = self.backend(storage).catalogue
        assert catalogue is not None
        catalogue.announce(Queue(queue, queue), DeviceCard(queue), SystemClock().now())
        return self.submitter(storage).submit(queue, {"value": 1})

    def daemon(self, options: RunOptions, **device: Any) -> Daemon:
        board = Board()
        observer = Observer(self.seen.append, board)
        return Daemon(self.settings(**device), options, observer, board)

    def drain(self) -> int:
        daemon = self.daemon(RunOptions(once=True))
        return daemon.serve(ServiceManager(), lambda: None)

    def told(self, name: EventName) -> list[dict[str, Any]]:
        return [dict(each.fields) for each in self.seen if each.name is name]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, uuid.uuid4().hex)


def test_a_device_serves_its_queues_in_both_storages(lab: Lab) -> None:
    first, second = lab.submit("lab", "cryo-fridge"), lab.submit("frb", "champss-fold")
    assert lab.drain() == 0
    assert lab.submitter("lab").status("cryo-fridge", first).state is State.DONE
    assert lab.submitter("frb").status("champss-fold", second).state is State.DONE
    announced = {(each["storage"], each["device"]) for each in lab.told(EventName.DEVICE_ANNOUNCED)}
    assert announced == {("lab", "cryo-fridge"), ("frb", "cryo-fridge")}
    cards = [each.name for each in lab.submitter("frb").devices()]
    assert cards == ["champss-fold"], "each storage has it under the name of its queue there"
    calls = {each["storage"]: each["calls"] for each in lab.told(EventName.STORAGE_CALLS)}
    assert set(calls) == {"lab", "frb"}
    assert "ack" in calls["lab"]
    assert list((lab.folder / "state" / "records").iterdir()) == [], "no estate is left behind"
    threads = {each.name.partition("-")[0] for each in threading.enumerate()}
    assert not threads & {"worker", "feed", "leases"}


def test_turns_go_by_the_settings(lab: Lab) -> None:
    urgent = []
    for _ in range(2):
        lab.submit("lab", "cryo-fridge")
        urgent.append(lab.submit("frb", "champss-fold"))
    daemon = lab.daemon(
        RunOptions(once=True), queues=["lab", {"queue": "frb:champss-fold", "priority": 3}]
    )
    assert daemon.serve(ServiceManager(), lambda: None) == 0
    order = [each["job"] for each in lab.told(EventName.JOB_CLAIMED)]
    assert order[:2] == urgent


def test_what_a_killed_daemon_held_is_taken_over_by_the_next_one_at_once(lab: Lab) -> None:
    """Its claims name its estate, and nobody has that locked: no lease is waited for."""
    job = lab.submit("lab", "cryo-fridge")
    daemon = lab.daemon(RunOptions())
    (feed,) = [each.feed for each in daemon.feeds if each.feed.name == "lab"]
    feed.records.open()
    lease = Lease(new_token(), feed.owner, 3600.0)
    claim = lab.backend("lab").claim(Queue("cryo-fridge", "cryo-fridge"), lease)
    assert claim is not None
    assert lab.drain() == 0
    assert lab.submitter("lab").status("cryo-fridge", job).state is State.RUNNING, "it lives"
    die(feed.records.folder)
    lab.seen.clear()
    assert lab.drain() == 0
    (told,) = lab.told(EventName.JOB_REQUEUED)
    assert told["job"] == job


def test_a_queue_that_its_storage_cannot_carry_is_refused(lab: Lab) -> None:
    content = {
        "state": str(lab.folder / "state"),
        "storage": {"type": "sqooler-local", "path": str(lab.folder)},
        "devices": {"cryo-fridge": {"handler": "echo"}},
    }
    with pytest.raises(ConfigError, match=r"cryo-fridge.*lower-case letters and digits.*queues = "):
        queues(Settings.model_validate(content), "storage")


def test_a_reload_changes_what_can_change(lab: Lab) -> None:
    daemon = lab.daemon(RunOptions())
    later = daemon.apply(lab.settings(timeout=5.0))
    assert later == []
    assert daemon.workers["cryo-fridge"].rules.timeout == 5.0
    assert daemon.apply(lab.settings(queues=["lab"])) == ["devices.cryo-fridge.queues"]
    assert daemon.apply(lab.settings(queues=["lab"], grace=9.0)) == ["devices.cryo-fridge.grace"]
