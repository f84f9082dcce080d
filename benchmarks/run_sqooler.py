"""sqooler's own loop with a device that does nothing: `run_sqooler STORAGE DEVICE TURNS`.

STORAGE is a folder, or a URI of a MongoDB server: sqooler itself knows only mongodb+srv, so the
driver's class is replaced in its module by one that goes to the URI; all else is sqooler's.

The pause between two turns is sqooler's T_WAIT_MAIN, the key its PRIVATE_JWK_STR, both from the
environment. TURNS = 0 is for ever, as sqooler has it.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, Literal

from pydantic import BaseModel

with warnings.catch_warnings():
    # pydantic warns about sqooler's own models when they are imported.
    warnings.simplefilter("ignore")
    from sqooler.schemes import (
        ExperimentalInputDict,
        ExperimentDict,
        GateInstruction,
        LocalLoginInformation,
        MongodbLoginInformation,
    )
    from sqooler.spoolers import Spooler, create_memory_data
    from sqooler.storage_providers import mongodb
    from sqooler.storage_providers.local import LocalProviderExtended
    from sqooler.utils import main, update_backends


class Nop(GateInstruction):  # type: ignore[misc]  # no type information upstream
    """The one instruction of the device."""

    name: Literal["nop"] = "nop"
    wires: list[int]
    params: list[float]
    parameters: str = ""
    description: str = "does nothing"
    coupling_map: list[list[int]] = [[0]]  # noqa: RUF012 - sqooler reads the default


class Experiment(BaseModel):
    """What sqooler checks an experiment against."""

    instructions: list[list[Any]]
    num_wires: Literal[1]
    shots: int
    wire_order: Literal["interleaved"]


def circuit(name: str, job: ExperimentalInputDict) -> ExperimentDict:
    """The answer of a device that does nothing."""
    return create_memory_data([0] * job.shots, name, job.shots, job.instructions)


def provider_for(storage: str) -> Any:
    """sqooler's own provider."""
    if not storage.startswith("mongodb://"):
        return LocalProviderExtended(LocalLoginInformation(base_path=storage), "bench")
    client = mongodb.MongoClient
    # The same options as in the URI that sqooler makes.
    mongodb.MongoClient = lambda _: client(f"{storage}&retryWrites=true&w=majority")
    login = {name: "any" for name in MongodbLoginInformation.model_fields}
    return mongodb.MongodbProviderExtended(MongodbLoginInformation(**login), "bench")


def run(storage: str, device: str, turns: int) -> None:
    """Announce the device and do `turns` turns of sqooler's loop."""
    spooler = Spooler(
        ins_schema_dict={"nop": Nop},
        device_config=Experiment,
        n_wires=1,
        description="does nothing",
        sign=True,
    )
    spooler.gen_circuit = circuit
    provider = provider_for(storage)
    update_backends(provider, {device: spooler})
    main(provider, {device: spooler}, num_iter=turns)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
