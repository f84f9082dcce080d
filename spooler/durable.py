"""Files that are whole or absent, and still there after a power cut.

Every change to a file that matters goes through this module: tests stop the process between
any two of these steps (see tests/faults), so nothing may be written past it. `os` is used
through the module's name for that reason.

`Disk(sync=False)` leaves the fsyncs out: files stay whole for readers and for a killed
process, but a power cut may take the last seconds. For measurements and throw-away storages.

`Disk(...).beneath(folder)` is for a folder that others may write in, too: whatever lies below it
is reached step by step from there, and no link on the way is followed.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import stat
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from spooler.errors import BackendUnavailable, Bug, NotPermitted, Scope

#: Where a file is. Hot paths pass text: making a Path costs as much as a system call.
Place: TypeAlias = str | Path

#: What the operating system says when a write could succeed later or elsewhere.
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space, nothing is lost meanwhile",
    errno.EDQUOT: "the disk quota is used up; free some space, nothing is lost meanwhile",
    errno.EROFS: "the file system is read-only; mount it writable",
    errno.EIO: "the disk or the file server reports an I/O error",
    errno.ESTALE: "the file server has lost the file handle",
    errno.ELOOP: "a link where a folder is expected; replace it with a folder",
    errno.ENOTDIR: "not a folder; replace it with one",
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
    """Return the error of the loop for an error of the operating system.

    `scope` says what was asked about; a full or broken disk is trouble for all of it.
    """
    if error.errno in {errno.EACCES, errno.EPERM}:
        if os.path.isabs(where):
            return NotPermitted(not_ours(where), scope=scope)
        sentence = f"{where}: permission denied; give the user that runs spooler access"
        return NotPermitted(sentence, scope=scope)
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    reach = Scope.STORAGE if error.errno in _WHOLE else scope
    return BackendUnavailable(f"{where}: {reason}", scope=reach)


def not_ours(where: Place) -> str:
    """Say that we may not use a place, whose it is, and the command that lets us in."""
    closed = _closed(Path(where).absolute())
    facts = closed.stat()
    owner, us = _user(facts.st_uid), _user(os.geteuid())
    rights = "rwx" if closed.is_dir() else "rw"
    if facts.st_uid == os.geteuid():
        mend = f"run: chmod u+{rights} {closed}"
    elif facts.st_gid in {os.getegid(), *os.getgroups()}:
        mend = f"have {owner} run: chmod g+{rights} {closed}"
    else:
        group = _group(os.getegid())
        mend = f"as root, run: chgrp {group} {closed} && chmod g+{rights} {closed}"
    return f"{where}: permission denied to {us}: {closed} belongs to {owner}; {mend}"


def _closed(path: Path) -> Path:
    """The last of a path that can be seen, or the folder above it where that is closed to us."""
    seen = Path(path.anchor)
    for each in (*reversed(path.parents), path):
        try:
            each.stat()
        except OSError:
            break
        seen = each
    if not seen.is_dir() and not os.access(seen.parent, os.W_OK | os.X_OK):
        return seen.parent
    return seen


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OSError):
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except (KeyError, OSError):
        return str(number)


def exists(path: Place) -> bool:
    """Return whether something can be seen at `path`; links are followed, so it is a hint.

    What may not be looked at counts as absent here; the step that follows says why it fails.
    """
    return os.access(path, os.F_OK)


def _folder_of(path: Place) -> str:
    return os.path.dirname(path) or "."


def _open_file(path: Place, access: int, at: int | None) -> int:
    """Open what is a file; anything else counts as absent (FileNotFoundError).

    Others write in the storage's folder: a link there may lead to a secret of ours, and a pipe
    would keep us for ever.
    """
    flags = access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, dir_fd=at)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:  # a link; a socket; a folder
            raise FileNotFoundError(errno.ENOENT, "no file", str(path)) from error
        raise
    if not os.path.isfile(handle):
        os.close(handle)
        raise FileNotFoundError(errno.ENOENT, "no file", str(path))
    return handle


def read(path: Place, *, limit: int | None = None, at: int | None = None) -> bytes:
    """Return the whole content of a file; with `limit`, no more of it than one byte beyond that.

    What is no file counts as absent (FileNotFoundError). `at` is the folder that `path` starts in.
    """
    handle = _open_file(path, os.O_RDONLY, at)
    try:
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


def _rename(source: Place, target: Place, here: int | None, there: int | None) -> None:
    os.rename(source, target, src_dir_fd=here, dst_dir_fd=there)


def _rename_unless_there(source: Place, target: Place, here: int | None, there: int | None) -> None:
    """Linux's rename that refuses to replace; one step, so nothing can come in between.

    Where the file system (NFS) or the system does not have it, `target` is looked at first: then
    a file that appears between the look and the rename is replaced.
    """
    if renameat2 is not None:
        ctypes.set_errno(0)
        if not renameat2(
            _AT_FDCWD if here is None else here,
            os.fsencode(source),
            _AT_FDCWD if there is None else there,
            os.fsencode(target),
            _RENAME_NOREPLACE,
        ):
            return
        code = ctypes.get_errno()
        if code not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise OSError(code, os.strerror(code), str(source), None, str(target))
    try:
        os.lstat(target, dir_fd=there)
    except FileNotFoundError:
        _rename(source, target, here, there)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def demand_writable(folder: Place) -> Path:
    """Raise BackendUnavailable unless `folder` can be written, or made; what of it is there."""
    wanted = Path(folder)
    nearest = next(each for each in (wanted, *wanted.parents) if os.path.exists(each))
    if not os.path.isdir(nearest):
        raise BackendUnavailable(f"{nearest} is not a folder; name another place")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise NotPermitted(not_ours(nearest))
    return nearest


def beside(name: str, mark: str) -> str:
    """The name under which the content of a file `name` waits in the same folder; readers skip it.

    `mark` is different for each of several writers of the same file.
    """
    return f".{name}.{mark}.tmp"


def staged(path: Place, mark: str) -> str:
    """Return the path at which the content of `path` waits: `beside` it."""
    folder, _, name = os.fspath(path).rpartition("/")
    return f"{folder or '.'}/{beside(name, mark)}"


#: A folder that is only passed through; it need not be readable.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = _FOLDER | os.O_NOFOLLOW
_READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_NAMES = {"", ".", ".."}


class _Visit(threading.local):
    """What this thread has opened, and how many of its blocks are open."""

    def __init__(self) -> None:
        self.depth = 0
        self.folders: dict[str, int] = {}


class _Ground:
    """The folders below `base`, each opened from the one above it, and through no link.

    `with` it each folder is opened once: what was reached stays the same folder, whatever is put
    in its place meanwhile. Nothing stays open after the block, or its disk could not be unmounted.
    `base` itself may be reached through links: whoever wrote the settings has chosen it.
    """

    def __init__(self, base: Place) -> None:
        self.base = os.fspath(base)
        here = self.base == "."
        self._start = "" if here else f"{self.base}/"
        self._top = {self.base, ""} if here else {self.base}
        self.visit = _Visit()

    def __enter__(self) -> None:
        self.visit.depth += 1

    def __exit__(self, *_: object) -> None:
        visit = self.visit
        visit.depth -= 1
        if not visit.depth:
            folders, visit.folders = visit.folders, {}
            for handle in folders.values():
                os.close(handle)

    def covers(self, path: str) -> bool:
        """Return whether `path` is below the base."""
        return path.startswith(self._start) and path != self.base

    def folder(self, path: str) -> int:
        """Return the open folder at `path`.

        ELOOP where a link stands in its place, or in that of a folder above it.
        """
        folders = self.visit.folders
        if (handle := folders.get(path)) is not None:
            return handle
        if path in self._top:
            handle = os.open(self.base, _FOLDER)
        else:
            above, _, name = path.rpartition("/")
            if name in _NO_NAMES:
                raise Bug(f"{path} is not below {self.base}")
            at = folders.get(above) or self.folder(above)
            try:
                handle = os.open(name, _STEP, dir_fd=at)
            except OSError as error:
                raise _no_step(error, path, name, at) from None
        folders[path] = handle
        return handle


def _no_step(error: OSError, path: str, name: str, at: int) -> OSError:
    """The error for a folder at `path` that could not be opened: a link is told from a file."""
    code = error.errno or 0
    if code == errno.ENOTDIR and stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode):
        code = errno.ELOOP
    return OSError(code, os.strerror(code), path)


_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


def _placed(
    step: Callable[Concatenate[Disk, Place, _Arguments], _Answer],
) -> Callable[Concatenate[Disk, Place, _Arguments], _Answer]:
    """A step of a Disk whose errors name the whole path, not only the last part of it."""

    def placed(
        disk: Disk, path: Place, /, *args: _Arguments.args, **options: _Arguments.kwargs
    ) -> _Answer:
        ground = disk.ground
        if ground is None:
            return step(disk, path, *args, **options)
        try:
            if ground.visit.depth:
                return step(disk, path, *args, **options)
            with ground:
                return step(disk, path, *args, **options)
        except OSError as error:
            if error.filename is not None and "/" not in os.fsdecode(error.filename):
                error.filename = os.fspath(path)
            raise

    update_wrapper(placed, step)
    return placed


class Disk:
    """The file operations of one storage or state folder, durable or not."""

    def __init__(
        self,
        *,
        sync: bool = True,
        guard: Callable[[], None] = lambda: None,
        ground: _Ground | None = None,
    ) -> None:
        """`guard` is called before a missing folder is made: an unmounted disk must not be."""
        self.sync = sync
        self.ground = ground
        self._guard = guard

    def beneath(self, base: Place) -> Disk:
        """Return the same for what is below `base`, where no link to a folder is followed."""
        return Disk(sync=self.sync, guard=self._guard, ground=_Ground(base))

    @contextmanager
    def visited(self) -> Iterator[None]:
        """Open each folder once in this block, for all that this thread does in it."""
        if self.ground is None:
            yield
            return
        with self.ground:
            yield

    def _at(self, path: Place) -> tuple[Place, int | None]:
        """Return a place as system calls take it: a name, and the open folder that it is in."""
        if self.ground is None:
            return path, None
        folder, _, name = os.fspath(path).rpartition("/")
        return name, self.ground.visit.folders.get(folder) or self.ground.folder(folder)

    def _is_folder(self, path: Place) -> bool:
        if self.ground is None or not self.ground.covers(os.fspath(path)):
            return os.path.isdir(path)
        try:
            self.ground.folder(os.fspath(path))
        except FileNotFoundError:
            return False
        return True

    def _open_folder(self, path: Place) -> int:
        """Open a folder to read its names, or to settle it."""
        if self.ground is None:
            return os.open(path, _READABLE)
        return os.open(".", _READABLE, dir_fd=self.ground.folder(os.fspath(path)))

    def _open_listed(self, path: Place) -> int:
        """Open a folder by its whole path, by which tools that trace us know it."""
        if self.ground is None:
            return os.open(path, _READABLE)
        reached = self.ground.folder(os.fspath(path))
        handle = os.open(path, _READABLE)
        if os.path.samestat(os.fstat(handle), os.fstat(reached)):
            return handle
        os.close(handle)  # it was replaced right now
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))

    # Looking.

    @_placed
    def read(self, path: Place, *, limit: int | None = None) -> bytes:
        """Return the whole content of a file, as the function `read` has it."""
        name, at = self._at(path)
        return read(name, limit=limit, at=at)

    @_placed
    def look(self, path: Place) -> os.stat_result:
        """Return what the system knows of a file, or of a link itself."""
        name, at = self._at(path)
        return os.lstat(name, dir_fd=at)

    @_placed
    def open_file(self, path: Place, *, writing: bool = False) -> OpenFile:
        """Return the file that is at `path` now, whatever stands there later."""
        name, at = self._at(path)
        return OpenFile(name, writing=writing, at=at)

    @contextmanager
    def entries(self, folder: Place) -> Iterator[Iterator[os.DirEntry[str]]]:
        """What is in a folder, in no order; nothing when there is none."""
        with self.visited():
            try:
                handle = self._open_listed(folder)
            except FileNotFoundError:
                yield iter(())
                return
            try:
                with os.scandir(handle) as found:
                    yield found
            finally:
                os.close(handle)

    def names(self, folder: Place) -> list[str]:
        """Return the names of what is in a folder, in no order; none when there is none."""
        with self.entries(folder) as entries:
            return [each.name for each in entries]

    # Changing.

    @_placed
    def make_folder(self, path: Place, *, mode: int = 0o777) -> None:
        """Create `path` and its parents; harmless where they exist."""
        if self._is_folder(path):
            return
        self._guard()
        if self.ground is not None and not os.path.isdir(self.ground.base):
            Disk(sync=self.sync).make_folder(self.ground.base)
        missing = [Path(path)]
        while (above := missing[-1].parent) != missing[-1] and not self._is_folder(above):
            missing.append(above)
        for folder in reversed(missing):
            try:
                name, at = self._at(folder)
                os.mkdir(name, mode, dir_fd=at)
            except FileExistsError:
                continue
            self.settle(folder.parent)

    @_placed
    def stage(self, path: Place, content: bytes, *, mode: int = 0o666) -> None:
        """Write a file that nobody looks at yet, in place of what a crash has left of it.

        Not atomic for readers: give it a name that they skip and that is only ours, then
        `rename` it. `mode` are its permissions from the first moment, less the umask. Nothing is
        written into what is there already: somebody may have put a pipe or a link in our way.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            name, at = self._at(path)
            handle = os.open(name, flags, mode, dir_fd=at)
        except (FileNotFoundError, FileExistsError):
            if not self.remove(path):
                self.make_folder(_folder_of(path))
            name, at = self._at(path)
            handle = os.open(name, flags, mode, dir_fd=at)
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

    @_placed
    def rename(self, source: Place, target: Place) -> None:
        """Move a file, replacing `target`. FileNotFoundError when `source` is gone.

        A folder in the place of a file is put aside: it must not keep a job from its end.
        """
        try:
            self._move(_rename, source, target)
        except IsADirectoryError:
            self.put_aside(target)
            self._move(_rename, source, target)

    @_placed
    def put_aside(self, path: Place) -> None:
        """Clear a place without looking at what is there, and without losing it."""
        name, at = self._at(path)
        _rename(name, f"{os.fspath(name)}.aside-{uuid.uuid4().hex[:12]}", at, at)

    @_placed
    def rename_new(self, source: Place, target: Place) -> None:
        """Move a file, replacing nothing.

        FileExistsError when there is a `target`; FileNotFoundError when `source` is gone, that
        is when somebody else has moved it first: of several movers exactly one succeeds.
        """
        self._move(_rename_unless_there, source, target)

    def _move(
        self,
        step: Callable[[Place, Place, int | None, int | None], None],
        source: Place,
        target: Place,
    ) -> None:
        before, here = self._at(source)
        try:
            after, there = self._at(target)
            step(before, after, here, there)
        except FileNotFoundError:
            if self._is_folder(_folder_of(target)):
                raise
            self.make_folder(_folder_of(target))
            after, there = self._at(target)
            step(before, after, here, there)

    @_placed
    def keep(self, source: Place, target: Place) -> None:
        """Move a finished file to where it stays, its content on disk first."""
        if self.sync:
            name, at = self._at(source)
            handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=at)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self.rename(source, target)
        self.settle(_folder_of(target))

    @_placed
    def link(self, source: Place, target: Place) -> bool:
        """Show a file under a second name; False where that is not possible."""
        try:
            self._link(source, target)
        except FileNotFoundError:
            self.make_folder(_folder_of(target))
            return exists(source) and self.link(source, target)
        except OSError:
            return False
        return True

    def _link(self, source: Place, target: Place) -> None:
        (before, here), (after, there) = self._at(source), self._at(target)
        os.link(before, after, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)

    @_placed
    def remove(self, path: Place) -> bool:
        """Delete a file; False when it was not there. A folder in its place is put aside."""
        try:
            name, at = self._at(path)
            os.unlink(name, dir_fd=at)
        except FileNotFoundError:
            return False
        except IsADirectoryError:
            self.put_aside(path)
        return True

    def remove_empty(self, *folders: Place) -> None:
        """Delete folders that are empty, the innermost first; stop at the first that is not."""
        with self.visited():
            for folder in folders:
                try:
                    name, at = self._at(folder)
                    os.rmdir(name, dir_fd=at)
                except OSError:
                    return

    @_placed
    def set_age(self, path: Place, modified_ns: int) -> None:
        """Say when a file was written, or a link itself."""
        name, at = self._at(path)
        os.utime(name, ns=(modified_ns, modified_ns), dir_fd=at, follow_symlinks=False)

    def settle(self, *folders: Place) -> None:
        """Make the renames, creations and deletions in `folders` survive a power cut."""
        if not self.sync:
            return
        with self.visited():
            for folder in dict.fromkeys(folders):
                try:
                    handle = self._open_folder(folder)
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
        with self.visited():
            waiting = staged(path, mark)
            self.stage(waiting, content, mode=mode)
            self.rename(waiting, path)
            self.settle(_folder_of(path))

    @_placed
    def publish_new(self, path: Place, content: bytes, *, mark: str, mode: int = 0o666) -> None:
        """Put a whole file at `path`; FileExistsError when there is one already."""
        waiting = staged(path, mark)
        self.stage(waiting, content, mode=mode)
        try:
            self._link(waiting, path)
        finally:
            self.remove(waiting)
        self.settle(_folder_of(path))


class OpenFile:
    """One file as it was found at a place, whatever stands in that place later.

    What is no file counts as absent (FileNotFoundError), as for `read`.
    """

    def __init__(self, path: Place, *, writing: bool = False, at: int | None = None) -> None:
        self._handle = _open_file(path, os.O_RDWR if writing else os.O_RDONLY, at)

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
        """Return whether the file is what others find at its path: nobody has removed it."""
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
