"""Files that are whole or absent, and still there after a power cut.

Every change to a file that matters goes through this module: tests stop the process between
any two of these steps (see tests/faults), so nothing may be written past it. `os` is used
through the module's name for that reason.

`Disk(sync=False)` leaves the fsyncs out: files stay whole for readers and for a killed
process, but a power cut may take the last seconds. For measurements and throw-away storages.
"""

from __future__ import annotations

import ctypes
import errno
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from spooler.errors import BackendUnavailable, Scope

#: Where a file is. Hot paths pass text: making a Path costs as much as a system call.
Place: TypeAlias = str | Path

#: What the operating system says when a write could succeed later or elsewhere.
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space, nothing is lost meanwhile",
    errno.EDQUOT: "the disk quota is used up; free some space, nothing is lost meanwhile",
    errno.EACCES: "permission denied; give the user that runs spooler access",
    errno.EPERM: "not permitted; give the user that runs spooler access",
    errno.EROFS: "the file system is read-only; mount it writable",
    errno.EIO: "the disk or the file server reports an I/O error",
    errno.ESTALE: "the file server has lost the file handle",
}


#: A rewritten file keeps at most so many bytes of blanks.
_PADDED = 64 * 1024

#: What concerns the whole of a disk, wherever on it somebody wrote.
_WHOLE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
}


def unavailable(error: OSError, where: Place, scope: Scope = Scope.STORAGE) -> BackendUnavailable:
    """The error of the loop for an error of the operating system.

    `scope` says what was asked about; a full or broken disk is trouble for all of it.
    """
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    reach = Scope.STORAGE if error.errno in _WHOLE else scope
    return BackendUnavailable(f"{where}: {reason}", scope=reach)


def exists(path: Place) -> bool:
    """Whether something can be seen at `path`.

    What may not be looked at counts as absent here; the step that follows says why it fails.
    """
    return os.access(path, os.F_OK)


def _folder_of(path: Place) -> str:
    return os.path.dirname(path) or "."


def read(path: Place, *, limit: int | None = None) -> bytes:
    """The whole content of a file; with `limit`, no more of it than one byte beyond that.

    What is no file counts as absent (FileNotFoundError). Others write in the storage's folder: a
    link there may lead to a secret of ours, and a pipe would keep us for ever.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket
            raise FileNotFoundError(errno.ENOENT, "no file", str(path)) from error
        raise
    try:
        if not os.path.isfile(handle):
            raise FileNotFoundError(errno.ENOENT, "no file", str(path))
        parts, left = [], 1 << 62 if limit is None else limit + 1
        while part := os.read(handle, min(1 << 20, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(handle)


_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
#: The system call, with errno; None where there is none.
renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _rename_unless_there(source: Place, target: Place) -> None:
    """Linux's rename that refuses to replace; one step, so nothing can come in between.

    Where the file system (NFS) or the system does not have it, `target` is looked at first: then
    a file that appears between the look and the rename is replaced.
    """
    if renameat2 is not None:
        ctypes.set_errno(0)
        if not renameat2(
            _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
        ):
            return
        code = ctypes.get_errno()
        if code not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise OSError(code, os.strerror(code), str(source), None, str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)


def demand_writable(folder: Place) -> Path:
    """Raise BackendUnavailable unless `folder` can be written, or made; what of it is there."""
    wanted = Path(folder)
    nearest = next(each for each in (wanted, *wanted.parents) if os.path.exists(each))
    if not os.path.isdir(nearest):
        raise BackendUnavailable(f"{nearest} is not a folder; name another place")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise BackendUnavailable(
            f"{nearest} cannot be read and written; give the user that runs spooler access"
        )
    return nearest


def beside(name: str, mark: str) -> str:
    """The name under which the content of a file `name` waits in the same folder; readers skip it.

    `mark` is different for each of several writers of the same file.
    """
    return f".{name}.{mark}.tmp"


def staged(path: Place, mark: str) -> str:
    """The path at which the content of `path` waits: `beside` it."""
    folder, _, name = os.fspath(path).rpartition("/")
    return f"{folder or '.'}/{beside(name, mark)}"


class Disk:
    """The file operations of one storage or state folder, durable or not."""

    def __init__(self, *, sync: bool = True, guard: Callable[[], None] = lambda: None) -> None:
        """`guard` is called before a missing folder is made: an unmounted disk must not be."""
        self.sync = sync
        self._guard = guard

    def make_folder(self, path: Place, *, mode: int = 0o777) -> None:
        """Create `path` and its parents; harmless where they exist."""
        if os.path.isdir(path):
            return
        self._guard()
        missing = [Path(path)]
        while not os.path.isdir(missing[-1].parent) and missing[-1].parent != missing[-1]:
            missing.append(missing[-1].parent)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, mode)
            except FileExistsError:
                continue
            self.settle(folder.parent)

    def stage(self, path: Place, content: bytes, *, mode: int = 0o666) -> None:
        """Write a file that nobody looks at yet, in place of what a crash has left of it.

        Not atomic for readers: give it a name that they skip and that is only ours, then
        `rename` it. `mode` are its permissions from the first moment, less the umask. Nothing is
        written into what is there already: somebody may have put a pipe or a link in our way.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, mode)
        except (FileNotFoundError, FileExistsError):
            if not self.remove(path):
                self.make_folder(_folder_of(path))
            handle = os.open(path, flags, mode)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(handle, view) :]
            if self.sync:
                os.fsync(handle)
        except OSError:
            os.close(handle)
            self.remove(path)
            raise
        os.close(handle)

    def stage_each(self, contents: Iterable[tuple[str, bytes]], name: str, mark: str) -> None:
        """Stage files of one name in several folders, to be revealed together."""
        waiting = beside(name, mark)
        for folder, content in contents:
            self.stage(f"{folder}/{waiting}", content)

    def reveal_each(self, folders: Iterable[str], name: str, mark: str) -> None:
        """Move what was staged to its places; what is not there was moved before, by anybody."""
        waiting = beside(name, mark)
        for folder in folders:
            try:
                self.rename(f"{folder}/{waiting}", f"{folder}/{name}")
            except FileNotFoundError:
                continue

    def rename(self, source: Place, target: Place) -> None:
        """Move a file, replacing `target`. FileNotFoundError when `source` is gone.

        A folder in the place of a file is put aside: it must not keep a job from its end.
        """
        try:
            self._move(os.rename, source, target)
        except IsADirectoryError:
            self.put_aside(target)
            os.rename(source, target)

    def put_aside(self, path: Place) -> None:
        """Clear a place without looking at what is there, and without losing it."""
        os.rename(path, f"{os.fspath(path)}.aside-{uuid.uuid4().hex[:12]}")

    def rename_new(self, source: Place, target: Place) -> None:
        """Move a file, replacing nothing.

        FileExistsError when there is a `target`; FileNotFoundError when `source` is gone, that
        is when somebody else has moved it first: of several movers exactly one succeeds.
        """
        self._move(_rename_unless_there, source, target)

    def _move(self, step: Callable[[Place, Place], None], source: Place, target: Place) -> None:
        try:
            step(source, target)
        except FileNotFoundError:
            if os.path.isdir(_folder_of(target)):
                raise
            self.make_folder(_folder_of(target))
            step(source, target)

    def keep(self, source: Place, target: Place) -> None:
        """Move a finished file to where it stays, its content on disk first."""
        if self.sync:
            handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self.rename(source, target)
        self.settle(_folder_of(target))

    def link(self, source: Place, target: Place) -> bool:
        """Show a file under a second name; False where that is not possible."""
        try:
            os.link(source, target)
        except FileNotFoundError:
            self.make_folder(_folder_of(target))
            return os.path.exists(source) and self.link(source, target)
        except OSError:
            return False
        return True

    def remove(self, path: Place) -> bool:
        """Delete a file; False when it was not there. A folder in its place is put aside."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except IsADirectoryError:
            self.put_aside(path)
        return True

    def remove_empty(self, *folders: Place) -> None:
        """Delete folders that are empty, the innermost first; stop at the first that is not."""
        for folder in folders:
            try:
                os.rmdir(folder)
            except OSError:
                return

    def settle(self, *folders: Place) -> None:
        """Make the renames, creations and deletions in `folders` survive a power cut."""
        if not self.sync:
            return
        for folder in dict.fromkeys(folders):
            try:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def publish(self, path: Place, content: bytes, *, mark: str, mode: int = 0o666) -> None:
        """Put a whole file at `path`, replacing what was there.

        `mark` makes the temporary name unique among concurrent writers of the same path.
        """
        waiting = staged(path, mark)
        self.stage(waiting, content, mode=mode)
        self.rename(waiting, path)
        self.settle(_folder_of(path))

    def publish_new(self, path: Place, content: bytes, *, mark: str, mode: int = 0o666) -> None:
        """Put a whole file at `path`; FileExistsError when there is one already."""
        waiting = staged(path, mark)
        self.stage(waiting, content, mode=mode)
        try:
            os.link(waiting, path)
        finally:
            self.remove(waiting)
        self.settle(_folder_of(path))


class OpenFile:
    """One file as it was found at a place, whatever stands in that place later.

    What is no file counts as absent (FileNotFoundError), as for `read`.
    """

    def __init__(self, path: Place, *, writing: bool = False) -> None:
        access = os.O_RDWR if writing else os.O_RDONLY
        try:
            self._handle = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
                raise FileNotFoundError(errno.ENOENT, "no file", str(path)) from error
            raise
        if not os.path.isfile(self._handle):
            self.close()
            raise FileNotFoundError(errno.ENOENT, "no file", str(path))

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def names(self) -> int:
        """How many names this file has in its file system; 0 when it was replaced or deleted."""
        return os.fstat(self._handle).st_nlink

    def settle(self) -> None:
        """Make the content survive a power cut."""
        os.fsync(self._handle)

    def rewrite(self, content: bytes) -> None:
        """Put `content` in place of what is in the file, under whatever name it has by now.

        One write, as long as the old content was (with blanks), so that readers of a small text
        find the old one or the new one. Nothing waits for the disk.
        """
        shorter = min(os.fstat(self._handle).st_size, _PADDED)
        padded = content.ljust(shorter)
        os.pwrite(self._handle, padded, 0)
        os.ftruncate(self._handle, len(padded))

    def close(self) -> None:
        """Let go of the file; not to be used afterwards."""
        os.close(self._handle)


class GrowingFile:
    """A file that is only appended to, one write a line: who dies in between leaves a torn end.

    A line is safe from the death of this process once `append` returns, and from a power cut
    after the next `settle`.
    """

    def __init__(self, path: Place, *, mode: int = 0o640) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._handle = os.open(path, flags, mode)
        self._path = path

    def append(self, content: bytes) -> None:
        """Raises OSError when not all of it could be written; then the end may be torn."""
        written = os.write(self._handle, content)
        if written != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    @property
    def there(self) -> bool:
        """Whether the file is what others find at its path: nobody has removed it."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.lstat(self._path))
        except OSError:
            return False

    def settle(self) -> None:
        """Make what was appended survive a power cut."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Let go of the file; not to be used afterwards."""
        os.close(self._handle)
