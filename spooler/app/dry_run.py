"""`spooler run --dry-run`: every waiting job up to what would be written, nothing written."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

from spooler.app import parts
from spooler.app.daemon import RunOptions
from spooler.clock import SystemClock
from spooler.daemon.rehearsal import Rehearsed, rehearse
from spooler.daemon.tickets import Tickets
from spooler.settings import Settings
from spooler.storage.liveness import this_process


def dry_run(settings: Settings, options: RunOptions) -> int:
    """Rehearse the queue of each device and show the documents, one JSON line per job."""
    parts.make_handlers_importable(settings)
    clock, owner = SystemClock(), this_process()
    signer = parts.load_signer(settings)
    backend = parts.open_storage(settings, clock, signer)
    tickets, shown = Tickets(options.max_jobs), 0
    try:
        for name, device in settings.enabled_devices().items():
            runner = parts.open_device(name, device, settings.state)
            try:
                rehearsed = rehearse(
                    backend=backend,
                    runner=runner,
                    rules=parts.device_rules(name, device, settings),
                    owner=owner,
                    sign=parts.report_signer(signer),
                    clock=clock,
                    more=tickets.take,
                )
                before = shown
                for each in rehearsed:
                    shown += 1
                    show(each)
                if shown == before and shown != options.max_jobs:
                    say_nothing_waits(name)
            finally:
                runner.close()
    finally:
        backend.close()
    return 0


def say_nothing_waits(device: str) -> None:
    """Beside the answer: silence would leave open whether anything was looked at."""
    with suppress(OSError):  # nobody listens
        print(f"{device}: no job waits, nothing would be done", file=sys.stderr, flush=True)


def show(rehearsed: Rehearsed) -> None:
    """One line: the job, how it would end, and each document with its place."""
    status = rehearsed.signed.report.status
    line = {
        "job": rehearsed.job.id,
        "device": rehearsed.job.device,
        "state": str(status.state),
        "reason": status.reason,
        "would_write": {write.place: write.content for write in rehearsed.writes},
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
