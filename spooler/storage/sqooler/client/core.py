"""A storage as documents at paths: what sqooler calls the core.

`StorageCore` is what a lab may subclass. Our own storages are `CheckedCore`s, which are never asked
about a name that was not checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar, NamedTuple, TypeVar

from spooler.storage.sqooler.client.names import check_id, check_path, check_provider

_Answer = TypeVar("_Answer")


class Place(NamedTuple):
    """Where a document lies: checked segments of its path, and its checked id."""

    segments: tuple[str, ...]
    id: str

    def __str__(self) -> str:
        return "/".join((*self.segments, self.id))


class NotADocument(ValueError):
    """What is stored is not a JSON object, or not all of one."""


#: Verbs that older releases of sqooler know by another name.
_OLDER = {
    "get": "get_file_content",
    "update": "update_file",
    "move": "move_file",
    "delete": "delete_file",
}


def validate_active(verb: Callable[..., _Answer]) -> Callable[..., _Answer]:
    """Have a method of a storage raise ValueError while the storage is not active."""

    @wraps(verb)
    def checked(self: StorageCore, *args: Any, **kwargs: Any) -> _Answer:
        self.demand_active()
        return verb(self, *args, **kwargs)

    return checked


class StorageCore(ABC):
    """Documents (JSON objects) at slash-separated paths, each with an id.

    A lab's own storage is a subclass with the five verbs below. Each has two names, the older one
    too: whichever of them a subclass defines is the one that is called.
    """

    #: Whether a document about a device or a key has that name as its id, whatever it says.
    ids_are_names: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, older in _OLDER.items():
            own = cls.__dict__
            if name in own and older not in own:
                setattr(cls, older, own[name])
            elif older in own and name not in own:
                setattr(cls, name, own[older])

    def __init__(
        self,
        name: str,
        is_active: bool = True,  # noqa: FBT001, FBT002 - sqooler's users pass it by position
    ) -> None:
        """Raises ValueError for an unusable name; capital letters become small ones."""
        self.name = check_provider(name)
        self.is_active = is_active

    def demand_active(self) -> None:
        """Raise ValueError when the storage is not active."""
        if not self.is_active:
            raise ValueError(f"the storage {self.name!r} is not active; activate it to use it")

    @abstractmethod
    def upload(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        """Write a new document; FileExistsError when there is one."""

    @abstractmethod
    def get(self, storage_path: str, job_id: str) -> dict[str, Any]:
        """Read a document; FileNotFoundError when there is none, NotADocument when damaged."""

    @abstractmethod
    def update(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        """Replace a document as a whole; FileNotFoundError when there is none."""

    @abstractmethod
    def move(self, start_path: str, final_path: str, job_id: str) -> None:
        """Move a document in one step; of several movers exactly one succeeds.

        FileNotFoundError when it is not (any more) at `start_path`, FileExistsError when there
        is one at `final_path`.
        """

    @abstractmethod
    def delete(self, storage_path: str, job_id: str) -> None:
        """Delete a document; FileNotFoundError when there is none."""

    # The older names: see `__init_subclass__`.

    get_file_content, update_file, move_file, delete_file = get, update, move, delete

    # What a provider asks beyond the verbs; a storage that can do better overrides it.

    def ids(self, storage_path: str) -> list[str]:
        """The ids of the documents at a path, oldest first; empty when there is no such path."""
        raise TypeError(
            f"{type(self).__name__} cannot list {storage_path}: give it a get_file_queue"
        )

    def branches(self, storage_path: str) -> list[str]:
        """Return the names of the paths right below a path, in order; empty when there are none."""
        raise TypeError(f"{type(self).__name__} cannot list what is below {storage_path}")

    def exists(self, storage_path: str, job_id: str) -> bool:
        """Return whether there is a document."""
        try:
            self.get(storage_path, job_id)
        except FileNotFoundError:
            return False
        return True

    def find(self, storage_path: str, field: str, value: str) -> str:
        """The id of the document at a path that is about `value`, which stands in its `field`.

        In a signed document the field is looked for in the payload. FileNotFoundError when
        there is none. Only asked for fields that are plain names (display_name, kid).
        """
        found = self.namesakes(storage_path, field, value)
        if not found:
            raise FileNotFoundError(f"there is nothing about {value!r} in {storage_path}")
        return found[0]

    def namesakes(self, storage_path: str, field: str, value: str) -> list[str]:
        """Return the ids of all documents that `find` chooses from, the one that it takes first."""
        del field  # it is the id
        return [value] if self.exists(storage_path, value) else []

    def id_for(self, value: str) -> str:
        """Return the id for a new document that will be found by `value`: see `find`."""
        return check_id(value)

    def close(self) -> None:  # noqa: B027 - a storage without connections has nothing to do
        """Let go of connections; harmless to repeat."""


class CheckedCore(StorageCore):
    """The verbs of our own storages: names and activity are checked here, once for all of them.

    A storage supplies the verbs with an underscore. Every verb raises ValueError for an unusable
    name or when the storage is not active, and BackendUnavailable when it does not answer.
    """

    def upload(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        self._create(self._place(storage_path, job_id), content_dict)

    def get(self, storage_path: str, job_id: str) -> dict[str, Any]:
        place = self._place(storage_path, job_id)
        document = self._read(place)
        if _holds_private_key(document):
            # Whoever put it there, by mistake or by a link: it is shown and copied nowhere.
            raise NotADocument(
                f"{place}: contains a private key; remove it, and generate a new key"
            )
        return document

    def update(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        self._replace(self._place(storage_path, job_id), content_dict)

    def move(self, start_path: str, final_path: str, job_id: str) -> None:
        source = self._place(start_path, job_id)
        self._move(source, self._place(final_path, job_id))

    def delete(self, storage_path: str, job_id: str) -> None:
        self._remove(self._place(storage_path, job_id))

    def ids(self, storage_path: str) -> list[str]:
        return list(self._ids(self._path(storage_path)))

    def exists(self, storage_path: str, job_id: str) -> bool:
        return self._exists(self._place(storage_path, job_id))

    def namesakes(self, storage_path: str, field: str, value: str) -> list[str]:
        return self._namesakes(self._path(storage_path), field, check_id(value))

    def branches(self, storage_path: str) -> list[str]:
        return self._branches(self._path(storage_path))

    # What a storage supplies.

    @abstractmethod
    def _create(self, place: Place, content: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def _read(self, place: Place) -> dict[str, Any]: ...

    @abstractmethod
    def _replace(self, place: Place, content: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def _move(self, source: Place, target: Place) -> None: ...

    @abstractmethod
    def _remove(self, place: Place) -> None: ...

    @abstractmethod
    def _ids(self, segments: tuple[str, ...]) -> Sequence[str]: ...

    @abstractmethod
    def _exists(self, place: Place) -> bool: ...

    @abstractmethod
    def _namesakes(self, segments: tuple[str, ...], field: str, value: str) -> list[str]: ...

    @abstractmethod
    def _branches(self, segments: tuple[str, ...]) -> list[str]: ...

    def _path(self, storage_path: str) -> tuple[str, ...]:
        self.demand_active()
        return check_path(storage_path)

    def _place(self, storage_path: str, job_id: str) -> Place:
        return Place(self._path(storage_path), check_id(job_id))


#: Members of a JWK that only its owner should know (RFC 7518, section 6).
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def _holds_private_key(document: object) -> bool:
    """Return whether there is, however deep, a JWK with a part that only its owner should know."""
    inside: Iterable[object] = ()
    if isinstance(document, Mapping):
        # sqooler writes `"d": null` into public ones.
        if "kty" in document and any(document.get(member) for member in _PRIVATE):
            return True
        inside = document.values()
    elif isinstance(document, list):
        inside = document
    return any(_holds_private_key(each) for each in inside if isinstance(each, Mapping | list))
