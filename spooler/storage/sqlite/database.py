"""One SQLite file as several threads and processes share it: transactions, and their troubles."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from spooler.durable import Disk, demand_writable, staged, unavailable
from spooler.errors import BackendUnavailable, ConfigError, Scope
from spooler.storage.sqlite.schema import APPLICATION, EDITION, TABLES

#: Seconds that one verb may wait for other threads and processes.
PATIENCE = 5.0
#: Bytes of the write-ahead log that stay allocated after a large report.
_LOG_LIMIT = 16 * 1024 * 1024

#: What went wrong, by the beginning of SQLite's name for it, and the way out.
_SENTENCES = {
    "SQLITE_BUSY": "locked by another process for too long; spooler retries",
    "SQLITE_FULL": "the disk is full; make room",
    "SQLITE_READONLY": "cannot be written; give the user that runs spooler access",
    "SQLITE_CANTOPEN": "cannot be opened; check that it exists and may be read and written,"
    " together with its folder",
    "SQLITE_PERM": "access is denied; give the user that runs spooler access",
    "SQLITE_IOERR": "the disk reports an error; check the file system",
    "SQLITE_CORRUPT": "the database is damaged; restore it from a backup, or save what is left"
    " with: sqlite3 FILE .recover",
}


class Database:
    """The file, through one connection that threads use in turn.

    Only `writing(make=True)` makes the file, and never a second time in one process: where it has
    gone missing, its disk may have been unmounted.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path = path
        self._sync = sync
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        #: Device and inode of the file that the connection has open.
        self._file: tuple[int, int] | None = None

    @contextmanager
    def writing(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        """Give a transaction that writes: once it ends all is on disk, after an error nothing."""
        with self._my_turn() as seconds, self._troubles():
            if make and self._is_new():
                self._make()
            yield from self._transaction("BEGIN IMMEDIATE", self._connected(seconds))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction that sees one state of everything; no file reads as an empty one."""
        with self._my_turn() as seconds, self._troubles():
            if self._is_new():
                with closing(sqlite3.connect(":memory:", isolation_level=None)) as nothing:
                    nothing.row_factory = sqlite3.Row
                    nothing.executescript(TABLES)
                    yield from self._transaction("BEGIN", nothing)
            else:
                yield from self._transaction("BEGIN", self._connected(seconds))

    def probe(self) -> None:
        """Raise BackendUnavailable unless the file can be written, or made; change nothing."""
        with self._troubles():
            new = self._is_new()
        if new:
            demand_writable(self.path.parent)
        else:
            with self.writing():
                pass

    def close(self) -> None:
        """Close the file; harmless to repeat."""
        with self._my_turn():
            self._disconnect()

    @contextmanager
    def _my_turn(self) -> Iterator[float]:
        """Wait for the other threads; give the seconds that are left to wait for processes."""
        deadline = time.monotonic() + PATIENCE
        if not self._turn.acquire(timeout=PATIENCE):
            raise BackendUnavailable(f"{self.path}: busy with another request; spooler retries")
        try:
            yield max(0.0, deadline - time.monotonic())
        finally:
            self._turn.release()

    @staticmethod
    def _transaction(begin: str, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        connection.execute(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        """Say in one sentence what is wrong with the file; the next verb opens it anew."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_NOTADB":
                raise self._not_ours() from error
            said = next((text for start, text in _SENTENCES.items() if name.startswith(start)), "")
            if not said and not isinstance(error, sqlite3.OperationalError):
                raise  # a statement of ours is wrong
            if not name and str(error).startswith("Could not decode"):  # one text of one row
                raise BackendUnavailable(f"{self.path}: {error}", scope=Scope.QUEUE) from error
            if not name.startswith("SQLITE_BUSY"):
                self._disconnect()
            raise BackendUnavailable(f"{self.path}: {said or error}") from error
        except OSError as error:
            raise unavailable(error, self.path) from error

    def _not_ours(self) -> ConfigError:
        return ConfigError(
            f"{self.path} is not a database of spooler; name another file in [storage] path"
        )

    # --- the file ---------------------------------------------------------------------------

    def _is_new(self) -> bool:
        """Return whether the file is yet to be made."""
        return self._file is None and self._identity() is None

    def _make(self) -> None:
        """Make the file beside its place and move it there whole: nobody sees half of it.

        SQLite gives the files beside it the same permissions. The umask has the last word.
        """
        disk, beside = Disk(sync=self._sync), staged(self.path, uuid.uuid4().hex[:12])
        disk.stage(beside, b"", mode=0o660)
        try:
            with closing(sqlite3.connect(beside, isolation_level=None)) as made:
                made.executescript(
                    f"PRAGMA journal_mode = WAL; BEGIN; {TABLES} PRAGMA application_id = "
                    f"{APPLICATION}; PRAGMA user_version = {EDITION}; COMMIT"
                )
            disk.rename_new(beside, self.path)
            disk.settle(self.path.parent)
        except FileExistsError:
            return  # somebody else was first
        finally:
            disk.remove(beside)

    def _connected(self, seconds: float) -> sqlite3.Connection:
        """Return the connection, which waits up to `seconds` for other processes."""
        if self._connection is None:
            self._connection = self._opened()
        elif self._identity() != self._file:
            self._disconnect()
            raise BackendUnavailable(
                f"{self.path}: replaced or removed while in use; is its file system mounted?"
            )
        self._connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?mode=rw",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        try:
            self._demand_ours(connection)
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._sync else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
            self._file = self._identity()
        except (sqlite3.Error, ConfigError):
            connection.close()
            raise
        return connection

    def _demand_ours(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (edition,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise self._not_ours()
        if edition != EDITION:
            raise ConfigError(
                f"{self.path} has schema version {edition} and this spooler reads version "
                f"{EDITION}; use the version of spooler that made it"
            )

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
