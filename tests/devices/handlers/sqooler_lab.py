"""A lab's present code: a real sqooler.spoolers.Spooler."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from sqooler.schemes import ExperimentalInputDict, ExperimentDict, GateInstruction
from sqooler.spoolers import Spooler, create_memory_data


class Flip(GateInstruction):
    name: Literal["flip"] = "flip"
    wires: Annotated[list[int], Field(max_length=1)]
    params: list[Annotated[float, Field(ge=0, le=1)]]
    parameters: str = "p"
    description: str = "flips"
    coupling_map: list[list[int]] = [[0]]  # noqa: RUF012 - sqooler reads the default


class Experiment(BaseModel):
    instructions: list[list[Any]]
    num_wires: Literal[1]
    shots: int
    wire_order: Literal["interleaved"]


def circuit(name: str, job: ExperimentalInputDict) -> ExperimentDict:
    if job.instructions[0].params[0] > 0.8:
        raise ValueError("the coin is too heavy")
    return create_memory_data([1] * job.shots, name, job.shots, job.instructions)


spooler = Spooler(
    ins_schema_dict={"flip": Flip},
    device_config=Experiment,
    n_wires=1,
    description="a coin",
    version="0.3.1",
)
spooler.gen_circuit = circuit

signing = Spooler(ins_schema_dict={"flip": Flip}, device_config=Experiment, n_wires=1, sign=True)
