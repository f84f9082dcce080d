"""What Qiskit wants to know of a device, derived from its configuration and never stored."""

from __future__ import annotations

import datetime

from spooler.storage.sqooler.client.documents import (
    BackendConfigSchemaIn,
    BackendConfigSchemaOut,
    BackendStatusSchemaOut,
)


def long_name(storage: str, display_name: str | None, *, simulator: bool) -> str:
    """`<storage>_<display name>_simulator`, or `..._hardware`."""
    return f"{storage}_{display_name or ''}_{'simulator' if simulator else 'hardware'}"


def configuration(config: BackendConfigSchemaIn, storage: str) -> BackendConfigSchemaOut:
    """Return the configuration of a device in Qiskit's words."""
    return BackendConfigSchemaOut(
        description=config.description,
        display_name=config.display_name or "",
        conditional=False,
        coupling_map="linear",
        dynamic_reprate_enabled=False,
        local=False,
        memory=True,
        open_pulse=False,
        backend_version=config.version,
        n_qubits=config.num_wires,
        backend_name=long_name(storage, config.display_name, simulator=config.simulator),
        basis_gates=[gate["name"] for gate in config.gates],
        max_experiments=config.max_experiments,
        max_shots=config.max_shots,
        simulator=config.simulator,
        gates=config.gates,
        supported_instructions=config.supported_instructions,
        cold_atom_type=config.cold_atom_type,
        wire_order=config.wire_order,
        num_species=config.num_species,
    )


def status(
    config: BackendConfigSchemaIn, storage: str, now: datetime.datetime, within: float
) -> BackendStatusSchemaOut:
    """The status of a device: operational when it was seen less than `within` seconds ago."""
    return BackendStatusSchemaOut(
        backend_name=long_name(storage, config.display_name, simulator=config.simulator),
        backend_version=config.version,
        operational=_seen_within(config.last_queue_check, now, within),
        pending_jobs=config.pending_jobs or 0,
        status_msg=config.status_msg or "",
    )


def _seen_within(last: datetime.datetime | None, now: datetime.datetime, within: float) -> bool:
    if last is None:
        return False
    if last.tzinfo is None:  # as MongoDB gives times back: UTC, without saying so
        last = last.replace(tzinfo=datetime.UTC)
    return (now - last).total_seconds() < within
