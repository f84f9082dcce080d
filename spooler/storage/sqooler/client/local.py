"""sqooler's local storage: one folder, one file per document.

Files are written beside their place and renamed, so that no reader sees half of one. Clients of
sqooler itself write in place; a file of theirs that is still growing is looked at again.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spooler.clock import SystemClock
from spooler.durable import Disk, exists, unavailable
from spooler.model.json import unique
from spooler.protocols import Clock
from spooler.signing.sqooler_form import datetime_handler
from spooler.storage.sqooler.client.core import CheckedCore, NotADocument, Place
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.names import is_id
from spooler.storage.sqooler.client.provider import StorageProvider

_SUFFIX = ".json"
#: Bytes that a document may have: a result is bounded by what its device may return.
LARGEST = 256 * 1024 * 1024
#: Seconds before another look at a file that is no JSON: a client may be writing it just now.
_LOOKS = (0.005, 0.02, 0.05, 0.1, 0.2)


def encode(content: Mapping[str, Any]) -> bytes:
    """Return a document as sqooler writes it; ValueError for what JSON does not have."""
    try:
        return json.dumps(content, default=datetime_handler, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the document cannot be written as JSON: {error}") from None


class LocalCore(CheckedCore):
    """Documents in files below one folder."""

    ids_are_names = True

    def __init__(
        self,
        login_dict: LocalLoginInformation,
        name: str,
        is_active: bool = True,  # noqa: FBT001, FBT002 - sqooler's users pass it by position
        *,
        disk: Disk | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the folder of `login_dict`; it is made with the first document.

        `disk` decides whether writes wait for the disk; `pause` waits between two looks at a
        file that somebody else is writing.
        """
        super().__init__(name, is_active)
        self.base_path = login_dict.base_path
        self._base = Path(login_dict.base_path)
        #: The files below the folder; no link on the way to one is followed.
        self.disk = (disk if disk is not None else Disk()).beneath(self._base)
        self._pause = pause

    def _create(self, place: Place, content: Mapping[str, Any]) -> None:
        data = encode(content)
        with self._translated(place):
            try:
                self.disk.publish_new(self._file(place), data, mark=_mark())
            except FileExistsError:
                raise FileExistsError(f"{place}: there is a document already") from None

    def _read(self, place: Place) -> dict[str, Any]:
        file = self._file(place)
        for pause in (*_LOOKS, None):
            with self._translated(place):
                data = self.disk.read(file, limit=LARGEST)
            if len(data) > LARGEST:
                raise NotADocument(f"{place}: the file has more than {LARGEST} bytes")
            try:
                document = json.loads(data, object_pairs_hook=unique)
            except (ValueError, RecursionError):
                document = None
            if isinstance(document, dict):
                return document
            if pause is not None:
                self._pause(pause)
        raise NotADocument(
            f"{place}: the file does not hold a whole JSON object, or a name in it is there "
            "twice; have it written again"
        )

    def _replace(self, place: Place, content: Mapping[str, Any]) -> None:
        data = encode(content)
        file = self._file(place)
        with self._translated(place):
            if not exists(file):
                raise FileNotFoundError
            self.disk.publish(file, data, mark=_mark())

    def _move(self, source: Place, target: Place) -> None:
        start, final = self._file(source), self._file(target)
        with self._translated(source):
            try:
                self.disk.rename_new(start, final)
            except FileExistsError:
                raise FileExistsError(f"{target}: there is a document already") from None
            # The new name first: after a power cut a job may lie in two places, never in none.
            self.disk.settle(final.parent, start.parent)

    def _remove(self, place: Place) -> None:
        file = self._file(place)
        with self._translated(place):
            if not self.disk.remove(file):
                raise FileNotFoundError
            self.disk.settle(file.parent)

    def _ids(self, segments: tuple[str, ...]) -> list[str]:
        folder = self._base.joinpath(*segments)
        aged: list[tuple[int, str]] = []
        try:
            with self.disk.entries(folder) as entries:
                for entry in entries:
                    found = _document_age(entry)
                    if found is not None:
                        aged.append(found)
        except OSError as error:
            raise unavailable(error, error.filename or folder) from error
        return [name for _, name in sorted(aged)]

    def _exists(self, place: Place) -> bool:
        with self._translated(place):
            return exists(self._file(place))

    def _namesakes(self, segments: tuple[str, ...], field: str, value: str) -> list[str]:
        del field  # it is in the name of the file
        return [value] if self._exists(Place(segments, value)) else []

    def _branches(self, segments: tuple[str, ...]) -> list[str]:
        folder = self._base.joinpath(*segments)
        try:
            with self.disk.entries(folder) as entries:
                return sorted(
                    each.name for each in entries if _is_folder(each) and is_id(each.name)
                )
        except OSError as error:
            raise unavailable(error, error.filename or folder) from error

    def _file(self, place: Place) -> Path:
        return self._base.joinpath(*place.segments, place.id + _SUFFIX)

    @contextmanager
    def _translated(self, place: Place) -> Iterator[None]:
        try:
            with self.disk.visited():
                yield
        except FileExistsError:
            raise
        except FileNotFoundError:
            raise FileNotFoundError(f"{place}: there is no such document") from None
        except OSError as error:
            raise unavailable(error, error.filename or self._file(place)) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _mark() -> str:
    return uuid.uuid4().hex[:16]


def _document_age(entry: os.DirEntry[str]) -> tuple[int, str] | None:
    """Return when a document was written (ns) and its id; None for a foreign or a vanished file."""
    name = entry.name.removesuffix(_SUFFIX)
    if name == entry.name or not is_id(name):
        return None
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        return entry.stat(follow_symlinks=False).st_mtime_ns, name
    except FileNotFoundError:
        return None


class LocalProviderExtended(StorageProvider, LocalCore):
    """A provider over a local folder, with a name of its own."""

    def __init__(
        self,
        login_dict: LocalLoginInformation,
        name: str,
        is_active: bool = True,  # noqa: FBT001, FBT002 - sqooler's users pass it by position
        *,
        operational_within: float = 300.0,
        clock: Clock | None = None,
        disk: Disk | None = None,
    ) -> None:
        super().__init__(login_dict, name, is_active, disk=disk)
        self.operational_within = operational_within
        self.clock = clock if clock is not None else SystemClock()


class LocalProvider(LocalProviderExtended):
    """A provider over a local folder, called `default`."""

    def __init__(self, login_dict: LocalLoginInformation) -> None:
        super().__init__(login_dict, name="default", is_active=True)
