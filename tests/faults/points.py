"""Every file operation of a process as a point at which it can die.

`install` puts a proxy in the place of `spooler.durable.os` (all file changes go through that
module, see test_architecture). The points are collected from a traced run; a point is named by
its operation, its places and its number, so that it is found again in another run whatever
random ids were drawn and however the threads took turns.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spooler import durable

#: Calls that change no file and look at none.
SILENT = {"fsencode", "fspath", "strerror"}
#: Calls that only look. Between two changes the disk is the same, so these are points only
#: when everything is asked for.
LOOKS = {"access", "lstat", "scandir", "read", "open to read", "close"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

BEFORE, WITHIN, AFTER = "before", "within", "after"

#: Called at each point of this process; the second does half of a step that can be torn.
At = Callable[["Point", Callable[[], Any]], None]


class Spoiled(BaseException):
    """A step went wrong where nothing but a BaseException gets through: the answer is lost."""


def whole() -> None:
    """A step that happens as a whole or not at all."""


@dataclass(frozen=True, order=True)
class Point:
    """One place in a process's life: call number `nth` of the operation `label`."""

    label: str
    nth: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.label} #{self.nth}"


def shown(text: object, root: str) -> str:
    """A path without what differs from run to run."""
    name = os.fsdecode(text) if isinstance(text, str | bytes | os.PathLike) else str(text)
    name = name.removeprefix(root)
    name = re.sub(r"[0-9a-f]{8,}", "#", name)
    name = re.sub(r"/k#/", "/", re.sub(r"/[a-z0-9-]+~#", "/S", name))
    return re.sub(r"\.([a-z])\d+-\d+", r".\1", name)


class TracedOs:
    """`os`, with `at(point)` called before and after each file operation.

    In a write there is a point in the middle too: then half of it is on the disk.
    """

    def __init__(self, root: str, at: Callable[[Point], None], *, looks: bool = False) -> None:
        self._root = root
        self._at = at
        self._looks = looks
        self._counts: Counter[str] = Counter()
        self._files: dict[int, str] = {}
        self._here = threading.local()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in SILENT or not callable(real) or isinstance(real, type):
            return real

        def traced(*args: Any, **kwargs: Any) -> Any:
            return self._call(name, real, args, kwargs)

        return traced

    def renameat2(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The one call that does not go through `os`."""

        def traced(*args: Any) -> Any:
            return self._call("renameat2", real, args, {})

        return traced

    @property
    def inside(self) -> bool:
        """Whether this thread is in a traced call, or outside of what is traced."""
        return bool(getattr(self._here, "depth", 0))

    @contextmanager
    def outside(self) -> Iterator[None]:
        """What somebody else does, who happens to live in this process."""
        self._here.depth = getattr(self._here, "depth", 0) + 1
        try:
            yield
        finally:
            self._here.depth -= 1

    def _call(self, name: str, real: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.inside:
            return real(*args, **kwargs)
        kind, label = self._label(name, self._whole(name, args, kwargs))
        if kind in LOOKS and not self._looks:
            with self.outside():
                return self._note(name, label, args, real(*args, **kwargs))
        nth = self._counts[label] = self._counts[label] + 1
        self._at(Point(label, nth, BEFORE))
        with self.outside():
            if name == "write":
                half = bytes(args[1])[: len(args[1]) // 2]
                self._at(_Torn(Point(label, nth, WITHIN), lambda: real(args[0], half)))
            answer = self._note(name, label, args, real(*args, **kwargs))
        self._at(Point(label, nth, AFTER))
        return answer

    def _whole(self, name: str, args: Any, folders: dict[str, Any]) -> Any:
        """The arguments with whole places, where names in open folders are given."""
        if name == "renameat2":
            here, source, there, target, _ = args
            return [self._within(here, source), self._within(there, target)]
        if "src_dir_fd" in folders:
            here, there = folders["src_dir_fd"], folders["dst_dir_fd"]
            return [self._within(here, args[0]), self._within(there, args[1])]
        if folders.get("dir_fd") is None:
            return args
        return [self._within(folders["dir_fd"], args[0]), *args[1:]]

    def _within(self, folder: int | None, name: Any) -> Any:
        if folder not in self._files:
            return name
        return f"{self._files[folder]}/{os.fsdecode(name)}".removesuffix("/.")

    def _label(self, name: str, args: Any) -> tuple[str, str]:
        if name == "open" and not args[1] & _WRITING:
            name = "open to read"
        places = [
            self._files.get(each, "") if name in {"write", "fsync", "close", "read"} else each
            for each in args
            if isinstance(each, str | bytes | os.PathLike) or each in self._files
        ]
        if name == "write":
            places = places[:1]
        return name, " -> ".join(
            [f"{name} {shown(places[0], self._root)}"]
            + [shown(each, self._root) for each in places[1:]]
        ) if places else name

    def _note(self, name: str, label: str, args: Any, answer: Any) -> Any:
        """Remember which file a handle is of."""
        if name == "open":
            self._files[answer] = label.removeprefix("open to read ").removeprefix("open ")
        elif name == "close":
            self._files.pop(args[0], None)
        return answer


@dataclass(frozen=True)
class _Torn:
    """A point in the middle of a write; `tear` does the first half of it."""

    point: Point
    tear: Callable[[], Any]


def _plain(at: At) -> Callable[[Any], None]:
    def call(seen: Any) -> None:
        if isinstance(seen, _Torn):
            at(seen.point, seen.tear)
        else:
            at(seen, whole)

    return call


def install(root: str, at: At, *, looks: bool = False) -> TracedOs:
    """Trace this process's file operations from now on.

    `at(point, tear)` is called at each point; at a point within a write, `tear` does half of it.
    """
    traced = TracedOs(root, _plain(at), looks=looks)
    durable.os = traced  # type: ignore[assignment]
    if durable.renameat2 is not None:
        durable.renameat2 = traced.renameat2(durable.renameat2)
    return traced


@contextmanager
def installed(root: str, at: At) -> Iterator[None]:
    """The same for a while."""
    real = durable.os, durable.renameat2
    install(root, at)
    try:
        yield
    finally:
        durable.os, durable.renameat2 = real


def watch_for_others(root: str, traced: TracedOs, tell: Callable[[str], None]) -> None:
    """Tell of each change of a file below `root` that `traced` does not see."""
    changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in changes and event != "open":
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITING):
            return
        place = args[0]
        if traced.inside or not isinstance(place, str | bytes | os.PathLike):
            return
        if os.fsdecode(place).startswith(root):
            tell(f"{event.removeprefix('os.')} {shown(place, root)}")

    sys.addaudithook(hook)
