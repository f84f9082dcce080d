"""What sqooler's users call a storage provider: all its logic, once, above the core verbs.

The order of writes is chosen so that a worker that dies between any two of them leaves its job
in `jobs/running`, where the work is found, and so that the same call once more completes it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from spooler.signing.sqooler_form import JWK, payload_of, sign_document, signer_of, verify_document
from spooler.storage.sqooler.client.device_documents import (
    DeviceDocuments,
    SigningKeyRefused,
    logger,
    parsed,
)
from spooler.storage.sqooler.client.documents import (
    AttributeIdStr,
    AttributePathStr,
    NextJobSchema,
    ResultDict,
    StatusMsgDict,
    get_init_status,
)
from spooler.storage.sqooler.client.names import NoSuchName, check_device, is_device, is_id

_NO_JOB = NextJobSchema(job_id="None", job_json_path="None")


class StorageProvider(DeviceDocuments):
    """Everything that submitters and workers do with a storage."""

    def get_attribute_id(
        self, attribute_name: AttributeIdStr, job_id: str, display_name: str | None = None
    ) -> str:
        """Return the id of one kind of document; ValueError for an unknown kind.

        Of a configuration it is its device's name, or found by that: NoSuchName (a ValueError and
        a FileNotFoundError) when there is none.
        """
        if attribute_name == "configs":
            name = check_device(display_name)
            found = name if self.ids_are_names else self._config_id(name)
            if found is None:
                raise NoSuchName(f"the device {name!r} has no configuration")
            return found
        if attribute_name in {"job", "results", "status"}:
            return job_id
        raise ValueError(f"there is no document called {attribute_name!r}")

    # --- jobs --------------------------------------------------------------------------------

    def create_job_id(self, display_name: str, username: str) -> str:
        """Return a new id: 24 hex digits, random."""
        del display_name, username  # some storages of sqooler's need them
        return uuid.uuid4().hex[:24]

    def upload_job(self, job_dict: Mapping[str, Any], display_name: str, username: str) -> str:
        """Queue a job for a device and return its id."""
        job_id = self.create_job_id(display_name, username)
        self.upload(job_dict, self.get_attribute_path("queue", display_name), job_id)
        return job_id

    def get_job(self, storage_path: str, job_id: str) -> dict[str, Any]:
        """Return the body of a job; FileNotFoundError when it is not at that path."""
        return self.get(storage_path, job_id)

    def get_job_content(self, storage_path: str, job_id: str) -> dict[str, Any]:
        """The older name of `get_job`."""
        return self.get_job(storage_path, job_id)

    def get_next_job_in_queue(
        self, display_name: str, private_jwk: JWK | None = None
    ) -> NextJobSchema:
        """Take the oldest job of a device, exclusively; its ids are "None" when there is none.

        Notes the look at the queue in the device's configuration, as `timestamp_queue` does.
        """
        self.timestamp_queue(display_name, private_jwk)
        queue = self.get_attribute_path("queue", display_name)
        running = self.get_attribute_path("running")
        for job_id in self.get_file_queue(queue):
            try:
                self.move(queue, running, job_id)
            except FileNotFoundError:
                continue  # another worker was faster
            except FileExistsError:
                # The folder of running jobs is shared by all devices.
                logger.warning("the job %s waits: a job with its id is running", job_id)
                continue
            return NextJobSchema(job_id=job_id, job_json_path=running)
        return _NO_JOB

    # --- status ------------------------------------------------------------------------------

    def upload_status(
        self,
        display_name: str,
        username: str,
        job_id: str,
        private_jwk: JWK | None = None,
    ) -> StatusMsgDict:
        """Write and return the first status of a job; FileExistsError when there is one.

        FileNotFoundError for a device that is not announced: nobody would ever take the job.
        """
        del username
        self.get_config(display_name)
        status = get_init_status().model_copy(update={"job_id": job_id})
        document = self._sealed_status(status, display_name, private_jwk)
        self.upload(document, self.get_attribute_path("status", display_name), job_id)
        return status

    def get_status(self, display_name: str, username: str, job_id: str) -> StatusMsgDict:
        """Return the status of a job; of an unknown job or device a status ERROR that says so."""
        del username
        document = self._known("status", display_name, job_id)
        if document is None:
            return StatusMsgDict(
                job_id=job_id,
                status="ERROR",
                detail="No status of this job is known.",
                error_message=f"There is no status of a job {job_id} of {display_name}.",
            )
        return parsed(StatusMsgDict, payload_of(document), f"the status of the job {job_id}")

    def _known(
        self, kind: AttributePathStr, display_name: str, job_id: str
    ) -> dict[str, Any] | None:
        """Return a document of a job, or None; an odd name is that of an unknown job or device.

        NoSuchName for a name that would lead out of the storage.
        """
        self.demand_active()
        if not is_id(job_id) or (is_id(display_name) and not is_device(display_name)):
            return None
        path = self.get_attribute_path(kind, display_name)
        try:
            return self.get(path, job_id)
        except FileNotFoundError:
            return None

    def _sealed_status(
        self, status: StatusMsgDict, display_name: str, private_jwk: JWK | None
    ) -> Mapping[str, Any]:
        """A status is signed when the device signs and there is a key; users have none."""
        if private_jwk is None or not self._signs(display_name):
            return status.model_dump()
        return sign_document(status.model_dump(), signer_of(private_jwk))

    def _signs(self, display_name: str) -> bool:
        try:
            return self.get_config(display_name).sign
        except FileNotFoundError:
            return False

    def _delete_status(self, display_name: str, username: str, job_id: str) -> bool:
        del username
        self.delete(self.get_attribute_path("status", display_name), job_id)
        return True

    # --- results -----------------------------------------------------------------------------

    def upload_result(
        self,
        result_dict: ResultDict,
        display_name: str,
        job_id: str,
        private_jwk: JWK | None = None,
    ) -> bool:
        """Write the result of a job; True also when this very result is there already.

        FileExistsError when another one is there, SigningKeyRefused (a ValueError) when the
        device signs and no key is given, FileNotFoundError for an unknown device.
        """
        result = result_dict.model_copy(update={"job_id": job_id}).model_dump()
        document: Mapping[str, Any] = result
        if self.get_config(display_name).sign:
            if private_jwk is None:
                raise SigningKeyRefused(
                    f"the results of {display_name!r} must be signed; give the private key"
                )
            document = sign_document(result, signer_of(private_jwk))
        path = self.get_attribute_path("results", display_name)
        try:
            self.upload(document, path, job_id)
        except FileExistsError:
            if payload_of(self.get(path, job_id)) != payload_of(document):
                raise FileExistsError(
                    f"the job {job_id} of {display_name!r} has another result already"
                ) from None
        return True

    def get_result(self, display_name: str, username: str, job_id: str) -> ResultDict:
        """Return the result of a job; of an unknown job or device a result with status ERROR."""
        del username
        document = self._known("results", display_name, job_id)
        if document is None:
            return ResultDict(
                display_name=display_name if is_device(display_name) else "",
                backend_version="",
                job_id=job_id,
                success=False,
                status="ERROR",
            )
        simulator = self.get_config(display_name).simulator
        name = self.long_backend_name(display_name, simulator)
        payload = {**payload_of(document), "backend_name": name}
        return parsed(ResultDict, payload, f"the result of the job {job_id}")

    def verify_result(self, display_name: str, job_id: str) -> bool:
        """Return whether the announced key of the device signed the result; False when unsigned.

        FileNotFoundError when there is no result, no device or no public key.
        """
        document = self.get(self.get_attribute_path("results", display_name), job_id)
        return verify_document(document, self.get_public_key(display_name))

    def _delete_result(self, display_name: str, job_id: str) -> bool:
        self.delete(self.get_attribute_path("results", display_name), job_id)
        return True

    # --- the end of a job --------------------------------------------------------------------

    def update_in_database(
        self,
        result_dict: ResultDict | None,
        status_msg_dict: StatusMsgDict,
        job_id: str,
        display_name: str,
        private_jwk: JWK | None = None,
    ) -> None:
        """Write result and status, then put the job to its final place; harmless to repeat.

        The result comes first, so that a submitter who reads DONE finds it; the move comes last,
        so that a job stays in `jobs/running` until everything about it is written. Other states
        than DONE and ERROR replace the status only. FileExistsError when the job has already
        ended otherwise, FileNotFoundError when it is not running: then nothing is written.
        """
        done, failed = status_msg_dict.status == "DONE", status_msg_dict.status == "ERROR"
        finished = self.get_attribute_path("finished", display_name)
        deleted = self.get_attribute_path("deleted")
        if (done and self.exists(deleted, job_id)) or (failed and self.exists(finished, job_id)):
            raise FileExistsError(f"the job {job_id} of {display_name!r} has already ended")
        if done or failed:
            self._demand_running(job_id, finished if done else deleted)
        if done:
            if result_dict is None:
                raise ValueError(f"the job {job_id} is done; give its result")
            self.upload_result(result_dict, display_name, job_id, private_jwk)
        self._write_status(status_msg_dict, display_name, job_id, private_jwk)
        if done or failed:
            self._settle_job(job_id, finished if done else deleted)

    def _demand_running(self, job_id: str, final: str) -> None:
        """Raise FileNotFoundError for a job that is neither running nor where it would end."""
        running = self.get_attribute_path("running")
        if not self.exists(running, job_id) and not self.exists(final, job_id):
            raise FileNotFoundError(f"there is no job {job_id} in {running}; see its id")

    def _write_status(
        self,
        status: StatusMsgDict,
        display_name: str,
        job_id: str,
        private_jwk: JWK | None,
    ) -> None:
        """Replace the status, or write it where the submitter has not (yet)."""
        path = self.get_attribute_path("status", display_name)
        document = self._sealed_status(status, display_name, private_jwk)
        try:
            self.update(document, path, job_id)
        except FileNotFoundError:
            logger.warning("the status of the job %s was missing and is written now", job_id)
            try:
                self.upload(document, path, job_id)
            except FileExistsError:  # the submitter's first status came at this moment
                self.update(document, path, job_id)

    def _settle_job(self, job_id: str, final: str) -> None:
        running = self.get_attribute_path("running")
        try:
            self.move(running, final, job_id)
        except FileNotFoundError:
            if not self.exists(final, job_id):
                logger.warning("the job %s has ended, but its body is missing", job_id)
        except FileExistsError:
            if self.get(running, job_id) != self.get(final, job_id):
                raise
            self.delete(running, job_id)
