"""Configuration and public key of each device in a folder storage."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from spooler.durable import Disk, demand_writable, exists
from spooler.errors import KeyRefused, Scope
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.signing.sqooler_form import public_jwk_of
from spooler.storage.sqooler.approval import demand_ours, same_public_key
from spooler.storage.sqooler.folder.layout import Layout
from spooler.storage.sqooler.folder.presence import FolderPresence
from spooler.storage.sqooler.folder.queue import list_queue
from spooler.storage.sqooler.folder.reading import document
from spooler.storage.sqooler.rendering import Renderer


class FolderCatalogue:
    """Publishes cards under the names of queues, and puts none in place of another key's."""

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        presence: FolderPresence,
        renderer: Renderer,
        former_keys: Sequence[dict[str, str]],
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._presence = presence
        self._renderer = renderer
        self._former_keys = former_keys
        self._mark = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._approved: set[str] = set()

    def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
        """Write the key first, then the configuration that names it.

        Each time it is looked who stands announced: somebody may have begun the folder anew, with
        another key, while this process went on.
        """
        with self._presence.asked(Scope.QUEUE), self._lock:
            self._presence.mark()
            self._presence.demand()
            standing = self._approve(queue.name)
            if not standing or queue.name not in self._approved:
                self._make_folders(queue.name)
                self._publish_key()
                self._publish_succession(queue.name)
                self._approved.add(queue.name)
            config = self._renderer.config(replace(card, name=queue.name), at)
            self._publish(self._layout.queues[queue.name].config, self._renderer.sealed(config))

    def _make_folders(self, name: str) -> None:
        """Make what a first submitter would make otherwise, perhaps closed to us by their umask.

        What cannot be made is told of by those who need it.
        """
        for folder in self._folders(name):
            with suppress(OSError):
                self._disk.make_folder(folder)

    def check_key_owner(self, queue: Queue) -> None:
        with self._presence.asked(Scope.QUEUE):
            self._approve(queue.name)

    def inspect(self, queue: Queue) -> str:
        strange: list[str] = []
        with self._presence.asked(Scope.QUEUE):
            for folder in self._folders(queue.name):
                if exists(folder):
                    demand_writable(folder)
            queued = self._layout.queues[queue.name].queued
            list_queue(self._disk, queued, strange.append)
        if not strange:
            return ""
        files = "1 file is" if len(strange) == 1 else f"{len(strange)} files are"
        return (
            f"{files} ignored in {queued}, such as {min(strange)!r}: a job file is called ID.json, "
            "with letters, digits, - and _ in the ID"
        )

    def _folders(self, name: str) -> tuple[str, ...]:
        """Return what a first submitter may make, or the daemon."""
        places, layout = self._layout.queues[name], self._layout
        own = (places.queued, places.status, places.results, places.finished)
        return (*own, layout.running, layout.deleted)

    def _approve(self, name: str) -> dict[str, Any]:
        """Return the configuration that stands there; KeyRefused when it is another key's."""
        # A card half written by a program that does not write whole files is none to keep.
        standing = document(self._disk, self._layout.queues[name].config)
        demand_ours(standing, name, self._renderer.signer, self._former_keys)
        return standing

    def _publish_key(self) -> None:
        signer = self._renderer.signer
        if signer is None:
            return
        place = f"{self._layout.public_keys}/{signer.kid}.json"
        key = public_jwk_of(signer).model_dump(mode="json")
        if not same_public_key(document(self._disk, place) or None, key):
            raise KeyRefused(
                f"another public key is already published under the kid {signer.kid!r}; "
                "make a key with a kid of its own: spooler keys generate"
            )
        self._publish(place, json.dumps(key).encode())

    def _publish_succession(self, name: str) -> None:
        """Let older results be verified: they name a key that the configuration names no more."""
        if self._renderer.signer is not None and self._former_keys:
            content = self._renderer.succession(name, self._former_keys)
            self._publish(self._layout.queues[name].succession, content)

    def _publish(self, place: str, content: bytes) -> None:
        self._disk.publish(place, content, mark=self._mark)
