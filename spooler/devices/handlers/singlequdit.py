"""The device `singlequdit`: a simulator of one collective spin, in sqooler's job format.

Gates and conventions are those of the cold-atom devices that sqooler's users know. Where these
are silent: `load` may come anywhere and starts from a fresh ensemble; `measure` may come several
times, does not change the state (each shot is a fresh preparation) and appends its samples;
without `measure` there are none. Without a seed each run draws anew; with one, an experiment
gives the same samples on every run, whatever its neighbours are.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from spooler.errors import ConfigError
from spooler.model.json import Json
from spooler.protocols import JobContext

try:
    import numpy as np

    from spooler.devices.handlers import spin
except ModuleNotFoundError as error:
    raise ConfigError(
        "the handler singlequdit needs numpy and scipy: pip install numpy scipy."
    ) from error

MAX_ATOMS = 500
MAX_SHOTS = 1_000_000
MAX_EXPERIMENTS = 1000
#: All samples of a job together: what a result of some ten MB holds, and memory for it.
MAX_SAMPLES = 10_000_000

_NAME = re.compile(r"experiment_([0-9]{1,9})")
_RATE = 5e6 * math.pi


@dataclass(frozen=True, slots=True)
class _Gate:
    """A gate as its users see it: the names of its parameters and the largest value of each."""

    parameters: tuple[str, ...]
    largest: float
    apply: Callable[..., spin.State]
    description: str


_GATES = {
    "rlx": _Gate(("theta",), 2 * math.pi, spin.rlx, "Rotation about x: exp(-i theta Lx)"),
    "rlz": _Gate(("delta",), 2 * math.pi, spin.rlz, "Rotation about z: exp(-i delta Lz)"),
    "rlz2": _Gate(("chi",), 20 * math.pi, spin.rlz2, "One-axis twisting: exp(-i chi Lz^2)"),
    "sq_full": _Gate(
        ("omega", "delta", "chi"),
        _RATE,
        spin.sq_full,
        "All at once: exp(-i (omega Lx + delta Lz + chi Lz^2))",
    ),
}
_OTHERS = ("barrier", "measure", "load")
_KNOWN = (*_GATES, *_OTHERS)


class Instruction(NamedTuple):
    """One step of an experiment; the only wire is left out."""

    name: str
    params: tuple[float, ...]


def _instruction(value: object) -> Instruction:
    """`[name, [wires], [params]]`, checked. Raises ValueError in words for the submitter."""
    if not isinstance(value, list | tuple) or len(value) != 3:  # noqa: PLR2004 - as written above
        raise ValueError("an instruction must be [name, [wires], [params]]")
    name, wires, params = value
    if name not in _KNOWN:
        near = get_close_matches(str(name), _KNOWN, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_KNOWN)}"
        raise ValueError(f"unknown gate {str(name)[:40]!r}, {hint}")
    _check_wires(name, wires)
    if not isinstance(params, list | tuple) or not all(_is_number(item) for item in params):
        raise ValueError(f"the parameters of {name} must be a list of numbers")
    _check_params(name, params)
    return Instruction(name, tuple(float(item) for item in params))


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _check_wires(name: str, wires: object) -> None:
    if name == "barrier" and isinstance(wires, list | tuple) and all(w == 0 for w in wires):
        return
    if not isinstance(wires, list | tuple) or len(wires) != 1 or wires[0] != 0:
        raise ValueError(f"{name} acts on wire 0 only: its wires must be [0]")


def _check_params(name: str, params: list[float] | tuple[float, ...]) -> None:
    gate = _GATES.get(name)
    names = gate.parameters if gate else ("N",) if name == "load" else ()
    if len(params) != len(names):
        wants = f"{len(names)} ({', '.join(names)})" if names else "none"
        raise ValueError(f"{name} takes {wants} parameters, got {len(params)}")
    for label, value in zip(names, params, strict=True):
        if gate and not 0 <= value <= gate.largest:
            times = f"{gate.largest / math.pi:g} pi"
            raise ValueError(f"{label} of {name} must be between 0 and {times}, got {value:g}")
        if not gate and (value != int(value) or value < 1):
            raise ValueError(f"load takes a whole number of atoms from 1 up, got {value:g}")


class Experiment(BaseModel):
    """One experiment of a job. Other keys are ignored, as sqooler does."""

    instructions: list[Annotated[Instruction, BeforeValidator(_instruction)]]
    num_wires: Literal[1]
    shots: Annotated[int, Field(ge=1)]
    wire_order: Literal["interleaved", "sequential"]
    seed: Annotated[int, Field(ge=0)] | None = None

    def samples(self) -> int:
        """Return how many samples this experiment returns."""
        return self.shots * sum(step.name == "measure" for step in self.instructions)


class SingleQudit:
    """One collective spin of up to `max_atoms` atoms.

    The limits can be set lower than the module's constants, never higher.
    """

    def __init__(
        self,
        max_shots: int = MAX_SHOTS,
        max_atoms: int = MAX_ATOMS,
        max_experiments: int = MAX_EXPERIMENTS,
        max_samples: int = MAX_SAMPLES,
        version: str = "1.0.0",
    ) -> None:
        limits = {
            "max_shots": (max_shots, MAX_SHOTS),
            "max_atoms": (max_atoms, MAX_ATOMS),
            "max_experiments": (max_experiments, MAX_EXPERIMENTS),
            "max_samples": (max_samples, MAX_SAMPLES),
        }
        for name, (value, most) in limits.items():
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be between 1 and {most}, got {value}")
        self._max_shots = max_shots
        self._max_atoms = max_atoms
        self._max_experiments = max_experiments
        self._max_samples = max_samples
        self._version = version
        self.params: Any = Annotated[dict[str, Experiment], AfterValidator(self._within_limits)]

    def card(self) -> dict[str, Json]:
        """Return what sqooler's configuration of a device wants to know."""
        gates: list[Json] = [
            {
                "coupling_map": [[0]],
                "description": gate.description,
                "name": name,
                "parameters": list(gate.parameters),
                "qasm_def": f"gate {name}({', '.join(gate.parameters)}) {{}}",
            }
            for name, gate in _GATES.items()
        ]
        return {
            "version": self._version,
            "description": "Simulator of one collective spin.",
            "simulator": True,
            "properties": {
                "cold_atom_type": "spin",
                "gates": gates,
                "supported_instructions": list(_KNOWN),
                "max_experiments": self._max_experiments,
                "max_shots": self._max_shots,
                "num_wires": 1,
                "wire_order": "interleaved",
                "num_species": 1,
            },
        }

    def open(self) -> None:
        """There is nothing to connect to."""

    def run(self, params: dict[str, Experiment], context: JobContext) -> dict[str, Any]:
        """Samples of all experiments, in sqooler's result format.

        Returns {"results": [one per experiment, in the order of the job]}; `memory` holds one
        string per sample, the index 0..N.
        """
        results = []
        for number, (name, experiment) in enumerate(params.items()):
            context.progress(f"experiment {number + 1} of {len(params)}")
            results.append(_result(name, experiment, context))
        return {"results": results}

    def close(self) -> None:
        """There is nothing to make safe."""

    def _within_limits(self, job: dict[str, Experiment]) -> dict[str, Experiment]:
        if not job:
            raise ValueError("the job has no experiments")
        if len(job) > self._max_experiments:
            raise ValueError(f"{len(job)} experiments, at most {self._max_experiments} are taken")
        for name, experiment in job.items():
            self._check_experiment(name, experiment)
        samples = sum(experiment.samples() for experiment in job.values())
        if samples > self._max_samples:
            raise ValueError(
                f"the job asks for {samples} samples in all, at most {self._max_samples} are taken:"
                " use fewer shots, or several jobs"
            )
        return job

    def _check_experiment(self, name: str, experiment: Experiment) -> None:
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name[:40]!r} is not an experiment name, write experiment_0")
        if int(match[1]) > self._max_experiments:
            raise ValueError(f"{name}: the number is at most {self._max_experiments}")
        if experiment.shots > self._max_shots:
            raise ValueError(
                f"{name}.shots: at most {self._max_shots} shots, got {experiment.shots}"
            )
        for index, step in enumerate(experiment.instructions):
            if step.name == "load" and step.params[0] > self._max_atoms:
                raise ValueError(
                    f"{name}.instructions.{index}: at most {self._max_atoms} atoms, got"
                    f" {step.params[0]:g}"
                )


def final_state(instructions: list[Instruction]) -> spin.State:
    """Return the state after all gates, starting from one atom; shape (N + 1,)."""
    state = spin.ground(1)
    for step in instructions:
        state = _applied(state, step)
    return state


def _applied(state: spin.State, step: Instruction) -> spin.State:
    if step.name == "load":
        return spin.ground(int(step.params[0]))
    gate = _GATES.get(step.name)
    return gate.apply(state, *step.params) if gate else state


def _result(name: str, experiment: Experiment, context: JobContext) -> dict[str, Any]:
    generator = np.random.default_rng(experiment.seed)
    memory: list[str] = []
    state = spin.ground(1)
    for step in experiment.instructions:
        if context.stop.is_set():
            raise ValueError("the simulation was asked to stop")
        if step.name == "measure":
            words = [str(index) for index in range(len(state))]
            drawn = spin.sample(state, experiment.shots, generator)
            memory += [words[index] for index in drawn.tolist()]
        else:
            state = _applied(state, step)
    return {
        "header": {"name": name, "extra metadata": "text"},
        "shots": experiment.shots,
        "success": True,
        "data": {"memory": memory, "instructions": None},
    }
