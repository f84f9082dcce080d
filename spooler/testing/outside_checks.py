"""The part of the contract that outsiders see: submitters, onlookers, wake-ups."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from spooler.errors import NotCancellable, UnknownJob
from spooler.model.artifact import Artifact
from spooler.model.device import NEVER, DeviceCard
from spooler.model.json import Json, JsonObject
from spooler.model.result import Result
from spooler.model.state import State
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    Bench,
    no_result,
    signed_report,
    take,
    take_over,
)

_FILES: Json = [{"path": "a.txt", "size": 1, "sha256": "0" * 64}]
_GOOD: dict[str, Json] = {"header": {}, "shots": 2, "success": True, "data": {"memory": ["0", "1"]}}
#: Data with keys that sqooler's form of a result uses too, or that spooler adds to it.
RETURNED: list[JsonObject] = [
    {},
    {"mean": 3.5},
    {"artifacts": ["none today"], "mean": 3.5},
    {"artifacts": {"dust": 3}},
    {"artifacts": []},
    {"artifacts": None},
    {"artifacts": _FILES},
    {"results": {"mean": 3.5}},
    {"results": None, "mean": 3.5},
    {"results": []},
    {"results": [1, 2]},
    {"results": "none"},
    {"results": [_GOOD], "artifacts": 1},
    {"results": [_GOOD], "mean": 3.5},
    {"results": [{**_GOOD, "data": {}}]},
    {"spooler": {"data": {"a": 1}, "artifacts": []}},
    {"spooler": {"data": {"a": 1}, "artifacts": _FILES}},
    {"spooler": 3},
    {"stored": {"bucket": "large", "file": "x", "size": 1, "sha256": "0"}},
    {"error": "no", "stored": {"file": "x"}, "results": []},
    {"header": {"results": 1}, "success": False, "status": "ERROR", "job_id": "x", "data": 1},
]


class OutsideChecks:
    """Mixed into BackendContract; not for use by itself."""

    # --- the submitter ----------------------------------------------------------------------

    def test_a_job_cancelled_in_the_queue_is_handed_out_as_cancelled(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        assert bench.submitter.cancel(DEVICE, job_id) is True
        claim = take(bench.backend())
        assert claim.cancelled

    def test_a_job_cancelled_while_it_runs_says_so_at_renewal(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = backend.start(take(backend), 600.0)
        assert not claim.cancelled
        assert bench.submitter.cancel(DEVICE, job_id) is False
        claim = backend.renew(claim)
        assert claim.cancelled
        backend.ack(claim, signed_report(claim, State.CANCELLED, reason="withdrawn"))
        assert bench.submitter.status(DEVICE, job_id).state is State.CANCELLED
        with pytest.raises(NotCancellable):
            bench.submitter.cancel(DEVICE, job_id)

    def test_a_cancel_survives_a_take_over(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        take(holder)
        bench.submitter.cancel(DEVICE, job_id)
        new = take_over(bench, other)
        assert new is not None
        assert new.cancelled

    def test_results_come_back_as_they_were(self, bench: Bench) -> None:
        """Whatever keys a handler uses: a storage's own names must not meet them."""
        file = Artifact("a.txt", 1, "0" * 64)
        results = [Result(data, files) for data in RETURNED for files in ((), (file,))]
        bench.submit(len(results))
        backend = bench.backend()
        for result in results:
            claim = take(backend)
            signed = signed_report(claim)
            backend.ack(claim, replace(signed, report=replace(signed.report, result=result)))
            assert bench.submitter.result(DEVICE, claim.job.id) == result

    @pytest.mark.parametrize("state", [State.DONE, State.ERROR, State.CANCELLED])
    def test_a_status_says_when_the_run_started_and_finished(
        self, bench: Bench, state: State
    ) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = backend.start(take(backend), 600.0)
        signed, began = signed_report(claim, state, reason="so"), bench.clock.now()
        status = replace(
            signed.report.status,
            started_at=began + timedelta(microseconds=1),
            finished_at=began + timedelta(seconds=5, microseconds=3),
        )
        backend.ack(claim, replace(signed, report=replace(signed.report, status=status)))
        assert bench.submitter.status(DEVICE, job_id) == status

    def test_unknown_jobs_are_said_to_be_unknown(self, bench: Bench) -> None:
        for ask in (bench.submitter.status, bench.submitter.cancel, bench.submitter.result):
            with pytest.raises(UnknownJob):
                ask(DEVICE, "0123456789abcdef01234567")

    def test_a_request_can_be_read_back(self, bench: Bench) -> None:
        """Before, while and after its job runs: `resubmit` and people ask for it."""
        backend = bench.backend()
        sent: JsonObject = {"shots": 5, "labels": ["\u00e4", None]}
        backend_sees = bench.submitter.submit(DEVICE, sent)
        for step in ("waits", "runs", "is done"):
            assert bench.submitter.request(DEVICE, backend_sees) == sent, step
            if step == "waits":
                claim = backend.start(take(backend), 600.0)
            elif step == "runs":
                backend.ack(claim, signed_report(claim))
        with pytest.raises(UnknownJob):
            bench.submitter.request(DEVICE, "0123456789abcdef01234567")

    # --- looking ----------------------------------------------------------------------------

    def test_announced_devices_are_seen(self, bench: Bench) -> None:
        backend, at = bench.backend(), bench.clock.now()
        if backend.catalogue is None:
            assert bench.submitter.devices() == []
            return
        card = DeviceCard(DEVICE, version="1.2.3", simulator=True, pending=4)
        backend.catalogue.announce(QUEUE, card, at)
        bench.submit(2)
        (card,) = [each for each in bench.submitter.devices(count=True) if each.name == DEVICE]
        assert (card.version, card.simulator, card.pending) == ("1.2.3", True, 2)
        take(backend)
        (card,) = [each for each in bench.submitter.devices(count=True) if each.name == DEVICE]
        assert card.pending == 1, "of now, and not of the last announcement"
        assert card.last_seen is not None
        assert abs((card.last_seen - at).total_seconds()) <= 1
        backend.catalogue.announce(QUEUE, replace(card, note="locked"), NEVER)
        (card,) = [each for each in bench.submitter.devices() if each.name == DEVICE]
        assert (card.last_seen, card.note) == (None, "locked"), "it has not been open yet"

    def test_peek_and_preview_change_nothing(self, bench: Bench) -> None:
        ids = bench.submit(3)
        backend = bench.backend()
        for _ in range(2):
            seen = [job.id for job in backend.peek(QUEUE)]
            assert sorted(seen) == sorted(ids)
            if backend.traits.ordered:
                assert seen == ids
        bench.submitter.cancel(DEVICE, ids[2])
        assert {job.id for job in backend.peek(QUEUE) if job.withdrawn} == {ids[2]}
        claim = take(backend)
        assert backend.preview(claim, signed_report(claim))
        no_result(bench, claim.job.id)
        assert backend.depth(QUEUE) == 2

    def test_a_new_job_wakes(self, bench: Bench) -> None:
        backend = bench.backend()
        woken = threading.Event()
        subscription = backend.subscribe(QUEUE, woken.set)
        if subscription is None:
            return
        bench.submit()
        assert woken.wait(10), "no wake-up within ten seconds"
        subscription.close()
        subscription.close()

    def test_it_answers(self, bench: Bench) -> None:
        backend = bench.backend()
        backend.ping()
        backend.close()
        backend.close()
