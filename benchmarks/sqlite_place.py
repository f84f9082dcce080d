"""A throw-away SQLite file with everything that one run needs, and its proof."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.place import DEVICE, JOB, TICK, BenchmarkError, Workplace
from spooler.clock import SystemClock
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.model.state import State
from spooler.storage.sqlite.catalogue import SqliteCatalogue
from spooler.storage.sqlite.database import Database
from spooler.storage.sqlite.submitter import SqliteSubmitter


class SqlitePlace(Workplace):
    """One database file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._file = folder / "spooler.db"
        self._ids: list[str] = []

    def settings(self, *, isolation: str, fsync: bool, announce_interval: float) -> Path:
        """Write spooler's settings; everything that is not said here is its default."""
        storage = f'type = "sqlite"\npath = "{self._file}"\nfsync = {str(fsync).lower()}'
        return self.write_settings(storage, isolation, announce_interval)

    def fill(self, count: int) -> None:
        """Announce the device and queue jobs; all is on the disk before anything is measured."""
        database = Database(self._file, sync=False)
        with closing(database):
            catalogue, card = SqliteCatalogue(database, self.key, ()), DeviceCard(DEVICE)
            catalogue.announce(Queue(DEVICE, DEVICE), card, datetime.now(UTC))
            submitter = SqliteSubmitter(database, SystemClock())
            self._ids += [submitter.submit(DEVICE, JOB) for _ in range(count)]
        os.sync()

    def seconds_between_results(self) -> float:
        """From the end of the first run to that of the last, as their statuses say."""
        with closing(SqliteSubmitter(Database(self._file), SystemClock())) as submitter:
            times = [submitter.status(DEVICE, each).finished_at for each in self._ids]
        ended = [each for each in times if each is not None]
        return max((max(ended) - min(ended)).total_seconds(), TICK)

    def demand_done(self, count: int, *, signed: bool) -> None:
        """Raise BenchmarkError unless `count` jobs are done, with signatures that hold."""
        with closing(SqliteSubmitter(Database(self._file), SystemClock())) as submitter:
            done = [
                each for each in self._ids if submitter.status(DEVICE, each).state is State.DONE
            ]
            if len(done) != count:
                raise BenchmarkError(
                    f"{count} jobs were to be done, and {len(done)} are; {self.log}"
                )
            for each in {done[0], done[len(done) // 2], done[-1]} if signed else ():
                verified = submitter.verify(DEVICE, each)
                if not verified.ok:
                    raise BenchmarkError(
                        f"the signature of a result does not hold: {verified.detail}"
                    )
