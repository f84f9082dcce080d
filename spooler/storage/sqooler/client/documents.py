"""The documents of a sqooler storage, under sqooler's public names and fields.

The order of the fields is part of the format: it is what gets signed (wire-sqooler.md). A lab's
code that imported `sqooler.schemes` and `sqooler.security` finds the same names here.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from spooler.signing.sqooler_form import (
    JWK,
    JWSDict,
    JWSHeader,
    create_jwk_pair,
    jwk_from_config_str,
    public_from_private_jwk,
    sign_payload,
)

StatusStr = Literal["INITIALIZING", "QUEUED", "DONE", "ERROR"]
ColdAtomStr = Literal["fermion", "boson", "spin", "mixed"]
WireOrderStr = Literal["sequential", "interleaved"]
AttributePathStr = Literal[
    "configs", "job", "results", "status", "running", "queue", "deleted", "finished", "pks"
]
AttributeIdStr = Literal["configs", "job", "results", "status"]
#: Whose a public key is.
PksStr = Literal["backend", "user"]
#: The short name of a device.
DisplayNameStr = Annotated[str, Field(pattern="^[a-z0-9]*$")]
#: `<storage name>_<display name>_<simulator or hardware>`.
BackendNameStr = Annotated[str, Field(pattern="^$|^[a-z0-9]+_[a-z0-9]+_[a-z0-9]+$")]
#: One segment of a storage path.
PathStr = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_\-\.]+$")]


# --- logins ----------------------------------------------------------------------------------


class LocalLoginInformation(BaseModel):
    """Where a local storage lies."""

    base_path: str


class DropboxLoginInformation(BaseModel):
    """What sqooler's users have for Dropbox, which is not served."""

    app_key: str = ""
    app_secret: str = Field(default="", repr=False)
    refresh_token: str = Field(default="", repr=False)

    @model_validator(mode="after")
    def _refused(self) -> DropboxLoginInformation:
        raise ValueError(
            "Dropbox storages are not supported; move the queue to a folder or to MongoDB "
            "(docs/moving-from-sqooler.md)"
        )


class MongodbLoginInformation(BaseModel):
    """Who logs in where; the URL is the host alone, or a whole `mongodb://` URI."""

    mongodb_username: str
    mongodb_password: str = Field(repr=False)
    mongodb_database_url: str


# --- jobs ------------------------------------------------------------------------------------


class StatusMsgDict(BaseModel):
    """Where a job stands. `error_message` is the text "None" when there is none."""

    job_id: str
    status: StatusStr
    detail: str
    error_message: str


class NextJobSchema(BaseModel):
    """A job taken from a queue and the path where it now lies; both "None" when there is none."""

    job_id: str
    job_json_path: str


class GateDict(BaseModel):
    """One gate of an experiment; `params` in the units of the device."""

    name: str
    wires: list[int]
    params: list[float]


class ExperimentalInputDict(BaseModel):
    """One experiment of a job, its instructions taken apart."""

    instructions: list[GateDict]
    num_wires: int
    shots: int
    wire_order: WireOrderStr
    seed: int | None = None


class DataDict(BaseModel):
    """One text per shot in `memory`: the numbers separated by blanks."""

    memory: list[str]
    instructions: list[GateDict] | None = None


class ExperimentDict(BaseModel):
    """The result of one experiment."""

    header: dict[Any, Any]
    shots: int
    success: bool
    data: DataDict


class ResultDict(BaseModel):
    """The result of a job."""

    backend_name: BackendNameStr | None = None
    display_name: DisplayNameStr = ""
    backend_version: str
    job_id: str
    qobj_id: str | None = None
    success: bool = True
    status: StatusStr
    header: dict[Any, Any] = {}
    results: list[ExperimentDict] = []


def get_init_status() -> StatusMsgDict:
    """Return the first status of a job whose id is not filled in yet."""
    return StatusMsgDict(
        job_id="None", status="INITIALIZING", detail="Got your json.", error_message="None"
    )


def get_init_results() -> ResultDict:
    """Return a result that is to be filled in."""
    return ResultDict(display_name="", backend_version="", job_id="", status="INITIALIZING")


# --- devices ---------------------------------------------------------------------------------


class BackendConfigSchemaIn(BaseModel):
    """The configuration of a device, as it is stored (and signed when `sign` is true)."""

    model_config = ConfigDict(validate_assignment=True)

    description: str
    version: str
    display_name: DisplayNameStr | None
    cold_atom_type: ColdAtomStr
    gates: list[Any]
    max_experiments: int
    max_shots: int
    simulator: bool
    supported_instructions: list[str]
    num_wires: int
    wire_order: WireOrderStr
    num_species: int
    pending_jobs: int | None = None
    status_msg: str | None = None
    last_queue_check: datetime.datetime | None = None
    sign: bool = False
    kid: str | None = None


class BackendConfigSchemaOut(BaseModel):
    """The configuration of a device as Qiskit wants it; derived, never stored."""

    model_config = ConfigDict(validate_assignment=True)

    description: str
    display_name: DisplayNameStr = ""
    conditional: bool = False
    coupling_map: str = "linear"
    dynamic_reprate_enabled: bool = False
    local: bool = False
    memory: bool = False
    open_pulse: bool = False
    backend_version: str
    n_qubits: int
    backend_name: BackendNameStr
    basis_gates: list[str]
    max_experiments: int
    max_shots: int
    simulator: bool
    gates: list[Any]
    supported_instructions: list[str]
    cold_atom_type: ColdAtomStr
    wire_order: WireOrderStr
    num_species: int
    url: str | None = None


class BackendStatusSchemaOut(BaseModel):
    """The status of a device as Qiskit wants it; derived, never stored."""

    backend_name: BackendNameStr
    backend_version: str
    operational: bool
    pending_jobs: int
    status_msg: str


class GateInstruction(BaseModel):
    """A gate of a device: subclasses fill in the defaults and add `params`.

    `coupling_map` lists the wires, or groups of wires, that the gate may act on.
    """

    name: str
    parameters: str
    wires: list[int]
    description: str
    coupling_map: list[Any]
    qasm_def: str = "{}"
    is_gate: bool = True

    #: What a device's configuration says about a gate, in this order.
    _CONFIG: ClassVar = ("coupling_map", "description", "name", "parameters", "qasm_def")

    @classmethod
    def config_dict(cls) -> dict[str, Any]:
        """The gate as it stands in the device's configuration, from the subclass's defaults."""
        defaults = {key: cls.model_fields[key].default for key in cls._CONFIG}
        return {**defaults, "parameters": [defaults["parameters"]]}

    @field_validator("wires")
    @classmethod
    def valid_coupling(cls, wires: list[int]) -> list[int]:
        """`wires` when the gate may act on them; else ValueError."""
        allowed = cls.model_fields["coupling_map"].default
        if isinstance(allowed, list) and wires not in allowed:
            raise ValueError(
                f"the wires {wires} are not in the coupling map; choose one of {allowed}"
            )
        return wires


class LabscriptParams(BaseModel):
    """Where labscript's experiment scripts lie, and the seconds between two looks at a run."""

    exp_script_folder: str
    t_wait: float


__all__ = [
    "AttributeIdStr",
    "AttributePathStr",
    "BackendNameStr",
    "ColdAtomStr",
    "DisplayNameStr",
    "PathStr",
    "PksStr",
    "StatusStr",
    "WireOrderStr",
    "DropboxLoginInformation",
    "LocalLoginInformation",
    "MongodbLoginInformation",
    "StatusMsgDict",
    "NextJobSchema",
    "GateDict",
    "ExperimentalInputDict",
    "DataDict",
    "ExperimentDict",
    "ResultDict",
    "get_init_status",
    "get_init_results",
    "BackendConfigSchemaIn",
    "BackendConfigSchemaOut",
    "BackendStatusSchemaOut",
    "GateInstruction",
    "LabscriptParams",
    "JWK",
    "JWSDict",
    "JWSHeader",
    "create_jwk_pair",
    "jwk_from_config_str",
    "public_from_private_jwk",
    "sign_payload",
]
