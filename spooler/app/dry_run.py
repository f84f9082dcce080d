"""`spooler run --dry-run`: every waiting job up to what would be written, nothing written."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

from spooler.app import parts
from spooler.app.daemon import RunOptions
from spooler.clock import SystemClock
from spooler.daemon.rehearsal import Rehearsed, rehearse
from spooler.daemon.schedule.drain import Tickets
from spooler.model.job import Queue
from spooler.protocols import Backend, ReportSigner
from spooler.settings import Settings
from spooler.signing.keys import generate


def dry_run(settings: Settings, options: RunOptions) -> int:
    """Rehearse the queue of each device and show the documents, one JSON line per job."""
    parts.make_handlers_importable(settings)
    # What is printed was never measured: it is signed as it would be, by a key that nobody knows.
    signer = None if parts.load_signer(settings) is None else generate("dry-run-not-a-result")
    tickets = Tickets(options.max_jobs)
    for storage in settings.feeds():
        backend = parts.open_storage(settings, settings.feeds()[storage], SystemClock(), signer)
        try:
            for queue in parts.queues(settings, storage).values():
                _rehearse(settings, backend, queue, parts.report_signer(signer), tickets)
        finally:
            backend.close()
    return 0


def _rehearse(
    settings: Settings, backend: Backend, queue: Queue, sign: ReportSigner, tickets: Tickets
) -> None:
    name, shown = queue.device, 0
    device = settings.devices[name]
    runner = parts.open_device(name, device, settings.state)
    try:
        rehearsed = rehearse(
            backend=backend,
            queue=queue,
            runner=runner,
            rules=parts.device_rules(name, device, settings),
            owner=parts.this_process(settings.state),
            sign=sign,
            clock=SystemClock(),
            more=lambda: _one_more(tickets),
        )
        for each in rehearsed:
            shown += 1
            show(name, each)
        if not shown and not tickets.used_up:
            say_nothing_waits(name)
    finally:
        runner.close()


def _one_more(tickets: Tickets) -> bool:
    taken = tickets.take()
    if taken:
        tickets.settle(used=True)
    return taken


def say_nothing_waits(device: str) -> None:
    """Beside the answer: silence would leave open whether anything was looked at."""
    with suppress(OSError):  # nobody listens
        print(f"{device}: no job is queued", file=sys.stderr, flush=True)


def show(device: str, rehearsed: Rehearsed) -> None:
    """One line: the job, how it would end, and each document with its place."""
    status = rehearsed.signed.report.status
    line = {
        "job": rehearsed.job.id,
        "device": device,
        "state": str(status.state),
        "reason": status.reason,
        "would_write": {write.place: write.content for write in rehearsed.writes},
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
