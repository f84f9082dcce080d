"""Configuration and public key of a device in a folder storage."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import datetime

from spooler.durable import Disk, read
from spooler.errors import KeyRefused
from spooler.model.device import DeviceCard
from spooler.signing.sqooler_form import public_jwk_of
from spooler.storage.sqooler.approval import demand_ours, same_public_key
from spooler.storage.sqooler.folder.layout import Layout
from spooler.storage.sqooler.rendering import Renderer


class FolderAnnouncing:
    """Publishes device cards, and refuses to put another key's signature in place of one."""

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        renderer: Renderer,
        former_keys: Sequence[dict[str, str]],
    ) -> None:
        self._layout = layout
        self._disk = disk
        self._renderer = renderer
        self._former_keys = former_keys
        self._mark = uuid.uuid4().hex[:12]
        self._approved: set[str] = set()

    def announce(self, card: DeviceCard, at: datetime) -> None:
        """Write the key first, then the configuration that names it."""
        place = self._layout.config(card.name)
        if card.name not in self._approved:
            self.approve(card.name)
            self._publish_key()
            self._publish_succession(card.name)
            self._approved.add(card.name)
        document = self._renderer.sealed(self._renderer.config(card, at))
        self._disk.publish(place, document, mark=self._mark)

    def approve(self, device: str) -> None:
        """Raise KeyRefused when the device is announced under a key that is not ours."""
        try:
            standing = json.loads(read(self._layout.config(device)))
        except FileNotFoundError:
            return
        except (ValueError, RecursionError):
            return  # half written by a program that does not write whole files: nothing to keep
        demand_ours(standing, device, self._renderer.signer, self._former_keys)

    def _publish_key(self) -> None:
        signer = self._renderer.signer
        if signer is None:
            return
        place = self._layout.public_key(signer.kid)
        document = public_jwk_of(signer).model_dump(mode="json")
        try:
            standing = json.loads(read(place))
        except (FileNotFoundError, ValueError, RecursionError):
            standing = None
        if not same_public_key(standing, document):
            raise KeyRefused(
                f"another public key is already published under the kid {signer.kid!r}; "
                "make a key with a kid of its own: spooler keys generate"
            )
        self._disk.publish(place, json.dumps(document).encode(), mark=self._mark)

    def _publish_succession(self, device: str) -> None:
        """Let older results be verified: they name a key that the configuration names no more."""
        if self._renderer.signer is not None and self._former_keys:
            content = self._renderer.succession(device, self._former_keys)
            self._disk.publish(self._layout.succession(device), content, mark=self._mark)
