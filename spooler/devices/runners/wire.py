"""The wire between a runner and its child process.

A frame is two lengths of four bytes each (big endian), a JSON object (the head) and a second
JSON text (the body: payload or data), which passes through unread by whoever only forwards it.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, TypeAlias

from pydantic_core import from_json, to_json

Head: TypeAlias = dict[str, Any]

_LENGTHS = struct.Struct(">II")
#: Bytes that a head may have.
HEAD_LIMIT = 1024 * 1024


class Frame(NamedTuple):
    """What one side tells the other."""

    head: Head
    body: bytes


class FrameError(Exception):
    """What came is not a frame: the other side is broken."""


def pack(head: Head, body: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    text = to_json(head)
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


class Unpacker:
    """Makes frames of bytes as they come; `limit` bounds the body."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes that came."""
        self._buffer += data

    def take(self) -> Frame | None:
        """Return the next whole frame, or None. Raises FrameError."""
        buffer = self._buffer
        if len(buffer) < _LENGTHS.size:
            return None
        head_size, body_size = _LENGTHS.unpack_from(buffer)
        if head_size > HEAD_LIMIT or body_size > self._limit:
            raise FrameError("a frame is larger than agreed")
        middle = _LENGTHS.size + head_size
        end = middle + body_size
        if len(buffer) < end:
            return None
        try:
            head = from_json(bytes(buffer[_LENGTHS.size : middle]), cache_strings="keys")
        except ValueError:
            raise FrameError("a frame is not JSON") from None
        if not isinstance(head, dict):
            raise FrameError("a frame is not a JSON object")
        body = bytes(buffer[middle:end])
        del buffer[:end]
        return Frame(head, body)
