"""Configurations and public keys of devices, above the core verbs of any storage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from spooler.clock import SystemClock
from spooler.errors import KeyRefused
from spooler.observe.logger import get_logger
from spooler.protocols import Clock
from spooler.signing.sqooler_form import (
    JWK,
    is_signed,
    payload_of,
    public_jwk_of,
    sign_document,
    signer_of,
    verify_document,
)
from spooler.storage.sqooler.client import qiskit_views
from spooler.storage.sqooler.client.core import NotADocument, StorageCore
from spooler.storage.sqooler.client.documents import (
    AttributePathStr,
    BackendConfigSchemaIn,
    BackendConfigSchemaOut,
    BackendStatusSchemaOut,
    PathStr,
    PksStr,
)
from spooler.storage.sqooler.client.names import check_device

logger = get_logger("spooler.storage")

#: The kinds of documents, and whether each device has a path of its own for them.
_KINDS: dict[str, bool] = {
    "configs": False,
    "pks": False,
    "running": False,
    "deleted": False,
    "queue": True,
    "finished": True,
    "status": True,
    "results": True,
}


class SigningKeyRefused(KeyRefused, ValueError):
    """The key is missing, or it is not the one that signed what is to be replaced."""


_Model = TypeVar("_Model", bound=BaseModel)


def parsed(model: type[_Model], document: Mapping[str, Any], what: str) -> _Model:
    """Return a stored document as `model`; NotADocument, in one sentence, when it does not fit."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise NotADocument(f"{what} cannot be read: {field}: {first['msg']}") from None


class DeviceDocuments(StorageCore):
    """The half of a provider that is about devices."""

    #: Where the documents of each kind lie; a subclass may say otherwise.
    configs_path: PathStr = "backends/configs"
    queue_path: PathStr = "jobs/queued"
    running_path: PathStr = "jobs/running"
    finished_path: PathStr = "jobs/finished"
    deleted_path: PathStr = "jobs/deleted"
    status_path: PathStr = "status"
    results_path: PathStr = "results"
    pks_path: PathStr = "backends/public_keys"
    #: Tells how long ago a device was seen.
    clock: Clock = SystemClock()
    #: Seconds after which a device that has not looked at its queue counts as down.
    operational_within: float = 300.0

    def get_attribute_path(
        self,
        attribute_name: AttributePathStr,
        display_name: str | None = None,
        job_id: str | None = None,
        username: str | None = None,
    ) -> str:
        """The storage path of one kind of document; ValueError for an unknown kind or device."""
        del job_id, username  # some storages of sqooler's need them
        if attribute_name not in _KINDS:
            raise ValueError(f"there is no place called {attribute_name!r}")
        path: str = getattr(self, f"{attribute_name}_path")
        return f"{path}/{check_device(display_name)}" if _KINDS[attribute_name] else path

    # --- configurations ----------------------------------------------------------------------

    def upload_config(
        self,
        config_dict: BackendConfigSchemaIn,
        display_name: str,
        private_jwk: JWK | None = None,
    ) -> None:
        """Store the configuration of a new device; FileExistsError when there is one."""
        config = _about(config_dict, display_name)
        if self._config_id(display_name) is not None:
            raise FileExistsError(f"the device {display_name!r} has a configuration already")
        self.upload(
            _sealed_config(config, private_jwk, signed=config.sign),
            self.configs_path,
            self.id_for(check_device(display_name)),
        )

    def update_config(
        self,
        config_dict: BackendConfigSchemaIn,
        display_name: str,
        private_jwk: JWK | None = None,
    ) -> None:
        """Replace the configuration of a device; what is signed stays signed, by the same key.

        FileNotFoundError when there is none, SigningKeyRefused (a ValueError) when it is signed
        by another key.
        """
        config = _about(config_dict, display_name)
        config_id = self.find(self.configs_path, "display_name", check_device(display_name))
        stored = self.get(self.configs_path, config_id)
        if is_signed(stored):
            _check_same_key(stored, private_jwk, display_name)
        document = _sealed_config(config, private_jwk, signed=config.sign or is_signed(stored))
        self.update(document, self.configs_path, config_id)

    def get_config(self, display_name: str) -> BackendConfigSchemaIn:
        """Return the configuration of a device; FileNotFoundError when there is none."""
        check_device(display_name)
        config_id = self.find(self.configs_path, "display_name", display_name)
        payload = payload_of(self.get(self.configs_path, config_id))
        return parsed(BackendConfigSchemaIn, payload, f"the configuration of {display_name!r}")

    def get_file_queue(self, storage_path: str) -> list[str]:
        """Return the ids of the documents at a path, oldest first."""
        return self.ids(storage_path)

    def get_backends(self) -> list[str]:
        """Return the display names of all devices with a readable configuration."""
        names: list[str] = []
        for config_id in self.get_file_queue(self.configs_path):
            try:
                document = payload_of(self.get(self.configs_path, config_id))
                names.append(check_device(str(document.get("display_name"))))
            except (NotADocument, ValueError) as error:
                logger.warning("the configuration %s is left out: %s", config_id, error)
            except FileNotFoundError:
                continue
        return sorted(set(names))

    def timestamp_queue(self, display_name: str, private_jwk: JWK | None = None) -> None:
        """Note in the configuration that the device has looked at its queue now."""
        config = self.get_config(display_name)
        config.last_queue_check = self.clock.now().replace(microsecond=0)
        self.update_config(config, display_name, private_jwk)

    def _delete_config(self, display_name: str) -> bool:
        check_device(display_name)
        self.delete(self.configs_path, self.find(self.configs_path, "display_name", display_name))
        return True

    def _config_id(self, display_name: str) -> str | None:
        """Return the id of a device's configuration, or None."""
        try:
            return self.find(self.configs_path, "display_name", check_device(display_name))
        except FileNotFoundError:
            return None

    # --- what Qiskit asks --------------------------------------------------------------------

    def get_backend_dict(self, display_name: str) -> BackendConfigSchemaOut:
        """Return the configuration in Qiskit's words; FileNotFoundError for an unknown device."""
        return self.backend_dict_to_qiskit(self.get_config(display_name))

    def get_backend_status(self, display_name: str) -> BackendStatusSchemaOut:
        """Return the status in Qiskit's words; FileNotFoundError for an unknown device."""
        return self.backend_dict_to_qiskit_status(self.get_config(display_name))

    def backend_dict_to_qiskit(
        self, backend_config_info: BackendConfigSchemaIn
    ) -> BackendConfigSchemaOut:
        """Return a configuration in Qiskit's words."""
        return qiskit_views.configuration(backend_config_info, self.name)

    def backend_dict_to_qiskit_status(
        self, backend_dict: BackendConfigSchemaIn
    ) -> BackendStatusSchemaOut:
        """Return the status that a configuration tells, in Qiskit's words."""
        return qiskit_views.status(
            backend_dict, self.name, self.clock.now(), self.operational_within
        )

    def long_backend_name(
        self,
        display_name: str,
        simulator: bool,  # noqa: FBT001 - sqooler's users pass it by position
    ) -> str:
        """Return the full name of a device, with its storage and its kind."""
        return qiskit_views.long_name(self.name, display_name, simulator=simulator)

    # --- public keys -------------------------------------------------------------------------

    def upload_public_key(
        self,
        public_jwk: JWK,
        display_name: str,
        role: PksStr = "backend",
    ) -> None:
        """Publish a public key; harmless to repeat.

        As `backend` it must be the key that the device's configuration names, as `user` the name
        must be usable. ValueError for an unknown role or such a name, SigningKeyRefused (one, too)
        for a private key, for another kid, and when the kid is another key's.
        """
        if role not in get_args(PksStr):
            raise ValueError(f"there is no role {role!r}; a key is a backend's or a user's")
        if public_jwk.key_ops != "verify" or public_jwk.d is not None:
            raise SigningKeyRefused(
                f"the key {public_jwk.kid!r} is private; publish its public half only"
            )
        if role == "backend":
            wanted = self.get_config(display_name).kid
            if public_jwk.kid != wanted:
                raise SigningKeyRefused(
                    f"the device {display_name!r} is announced with the key {wanted!r}, not "
                    f"{public_jwk.kid!r}; publish the announced one"
                )
        else:
            check_device(display_name)
        document = public_jwk.model_dump(mode="json")
        try:
            known = self.get_public_key_from_kid(public_jwk.kid)
        except FileNotFoundError:
            self.upload(document, self.pks_path, self.id_for(public_jwk.kid))
            return
        if known.x != public_jwk.x:
            raise SigningKeyRefused(
                f"the kid {public_jwk.kid!r} belongs to another key already; rename the new one"
            )

    def get_public_key_from_kid(self, kid: str) -> JWK:
        """Return the public key of that name; FileNotFoundError when there is none."""
        document = self.get(self.pks_path, self.find(self.pks_path, "kid", kid))
        return parsed(JWK, document, f"the public key {kid!r}")

    def get_public_key(self, display_name: str) -> JWK:
        """The public key that a device's configuration names; FileNotFoundError when none."""
        kid = self.get_config(display_name).kid
        if kid is None:
            raise FileNotFoundError(f"the device {display_name!r} is announced without a key")
        return self.get_public_key_from_kid(kid)

    def _delete_public_key(self, kid: str) -> bool:
        self.delete(self.pks_path, self.find(self.pks_path, "kid", kid))
        return True


def _about(config: BackendConfigSchemaIn, display_name: str) -> BackendConfigSchemaIn:
    """Return a copy of the caller's configuration that is about this device.

    Warns (UserWarning) where the caller's is about another one.
    """
    if config.display_name != display_name:
        warnings.warn(
            f"the configuration says it is of {config.display_name!r}; it is stored as that of "
            f"{display_name!r}",
            stacklevel=3,
        )
    return config.model_copy(update={"display_name": check_device(display_name)})


def _sealed_config(
    config: BackendConfigSchemaIn, private_jwk: JWK | None, *, signed: bool
) -> Mapping[str, Any]:
    if not signed:
        return config.model_dump()
    if private_jwk is None:
        raise SigningKeyRefused(
            f"the configuration of {config.display_name!r} must be signed; give the private key"
        )
    signer = signer_of(private_jwk)
    return sign_document(config.model_copy(update={"kid": signer.kid}).model_dump(), signer)


def _check_same_key(stored: Mapping[str, Any], private_jwk: JWK | None, display_name: str) -> None:
    """A signed configuration is replaced only by whoever holds the key that signed it."""
    header = stored["header"]
    there = header.get("kid") if isinstance(header, Mapping) else None
    if private_jwk is None:
        raise SigningKeyRefused(
            f"the configuration of {display_name!r} is signed by the key {there!r}; give that key"
        )
    if verify_document(stored, public_jwk_of(signer_of(private_jwk))):
        return
    if there == private_jwk.kid:
        raise SigningKeyRefused(
            f"the configuration of {display_name!r} was changed after it was signed, or another "
            f"key is called {there!r} too; look at it, and remove it to announce the device anew"
        )
    raise SigningKeyRefused(
        f"the configuration of {display_name!r} is signed by the key {there!r}, not by this key "
        f"{private_jwk.kid!r}; use the announced key, or remove the configuration first"
    )
