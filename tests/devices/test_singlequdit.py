from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import expm

from spooler.devices.handlers.singlequdit import Instruction, final_state
from spooler.errors import ConfigError, PayloadInvalid
from spooler.model.json import Json
from spooler.model.state import State

from .conftest import Bench, MakeBench


def experiment(*steps: list[Any], shots: int = 5, **more: Any) -> dict[str, Any]:
    return {
        "instructions": list(steps),
        "num_wires": 1,
        "shots": shots,
        "wire_order": "interleaved",
        **more,
    }


def load(atoms: float) -> list[Any]:
    return ["load", [0], [atoms]]


MEASURE: list[Any] = ["measure", [0], []]


@pytest.fixture
def qudit(bench: MakeBench) -> Bench:
    return bench("singlequdit", isolation="thread")


def results(it: Bench, payload: Json) -> list[dict[str, Any]]:
    outcome = it.run(payload)
    assert outcome.state is State.DONE, outcome.reason
    assert outcome.result is not None
    found = outcome.result.data["results"]
    assert isinstance(found, list)
    return found


def memory(it: Bench, *steps: list[Any], **more: Any) -> list[str]:
    return list(results(it, {"experiment_0": experiment(*steps, **more)})[0]["data"]["memory"])


def test_the_shape_of_a_result(qudit: Bench) -> None:
    job = {"experiment_3": experiment(load(3), MEASURE), "experiment_1": experiment(shots=7)}
    assert results(qudit, job) == [
        {
            "header": {"name": "experiment_3", "extra metadata": "text"},
            "shots": 5,
            "success": True,
            "data": {"memory": ["0"] * 5, "instructions": None},
        },
        {
            "header": {"name": "experiment_1", "extra metadata": "text"},
            "shots": 7,
            "success": True,
            "data": {"memory": [], "instructions": None},
        },
    ]


@pytest.mark.interop
@pytest.mark.usefixtures("real_sqooler")
def test_the_result_is_what_sqooler_reads(qudit: Bench) -> None:
    from sqooler.schemes import ResultDict

    found = results(qudit, {"experiment_0": experiment(load(3), MEASURE)})
    read = ResultDict(
        display_name="singlequdit", backend_version="1.0.0", job_id="a", status="DONE",
        results=found,
    )  # fmt: skip
    assert read.results[0].data.memory == ["0"] * 5


@pytest.mark.interop
@pytest.mark.usefixtures("real_sqooler")
def test_the_card_is_what_sqooler_reads(bench: MakeBench) -> None:
    from sqooler.schemes import BackendConfigSchemaIn

    card = bench("singlequdit", isolation="thread", opened=False).runner.open()
    read = BackendConfigSchemaIn(
        display_name="singlequdit", version=card.version, description=card.description,
        simulator=card.simulator, sign=True, **card.properties,
    )  # fmt: skip
    assert read.simulator
    assert read.max_shots == 1_000_000
    assert {gate["name"] for gate in read.gates} == {"rlx", "rlz", "rlz2", "sq_full"}


def test_physics_goes_through(qudit: Bench) -> None:
    """A pi pulse moves all atoms; half a pulse moves half of them, within the noise."""
    assert set(memory(qudit, load(20), ["rlx", [0], [math.pi]], MEASURE)) == {"20"}
    half = memory(qudit, load(100), ["rlx", [0], [math.pi / 2]], MEASURE, shots=4000, seed=1)
    numbers = np.array([int(word) for word in half])
    assert abs(numbers.mean() - 50) < 5 * 5 / math.sqrt(4000)
    assert abs(numbers.var() - 25) < 5 * 25 * math.sqrt(2 / 4000)


def exactly(atoms: int, steps: list[tuple[str, tuple[float, ...]]]) -> Any:
    """The state after `steps`, by dense matrices made from the ladder operators alone."""
    length = atoms / 2
    m = length - np.arange(atoms + 1)
    plus = np.diag(np.sqrt(length * (length + 1) - m[1:] * (m[1:] + 1)), k=1)
    lx, lz = (plus + plus.T) / 2, np.diag(m)
    operators = {"rlx": (lx,), "rlz": (lz,), "rlz2": (lz @ lz,), "sq_full": (lx, lz, lz @ lz)}
    state = np.eye(atoms + 1)[0].astype(complex)
    for name, params in steps:
        whole = sum(a * operator for a, operator in zip(params, operators[name], strict=True))
        state = expm(-1j * whole) @ state
    return state


#: Every gate, between turns that make each sign and each phase visible.
SEQUENCE: list[tuple[str, tuple[float, ...]]] = [
    ("rlx", (0.7,)), ("rlz", (1.3,)), ("rlx", (0.4,)), ("rlz2", (0.9,)), ("rlx", (1.1,)),
    ("sq_full", (0.5, 1.2, 0.3)), ("rlx", (0.8,)),
]  # fmt: skip


def test_each_gate_of_a_job_is_the_operator_of_its_name() -> None:
    """Amplitudes, because a common sign of all parameters does not show in the populations."""
    steps = [Instruction("load", (6.0,)), *(Instruction(*step) for step in SEQUENCE)]
    assert_allclose(final_state(steps), exactly(6, SEQUENCE), atol=1e-12)


def test_the_samples_of_a_seed_are_those_of_the_exact_state(qudit: Bench) -> None:
    """numpy's default generator, one draw a shot: what a seed gives stays what it was."""
    steps = [[name, [0], list(params)] for name, params in SEQUENCE]
    edges = np.cumsum(np.abs(exactly(6, SEQUENCE)) ** 2)
    expected = np.searchsorted(edges, np.random.default_rng(11).random(2000))
    found = memory(qudit, load(6), *steps, MEASURE, shots=2000, seed=11)
    assert found == [str(index) for index in expected]


def test_without_load_there_is_one_atom(qudit: Bench) -> None:
    assert memory(qudit, ["rlx", [0], [math.pi]], MEASURE) == ["1"] * 5


def test_load_starts_afresh_and_barriers_do_nothing(qudit: Bench) -> None:
    steps = [load(5), ["rlx", [0], [math.pi]], ["barrier", [0], []], load(3), MEASURE]
    assert memory(qudit, *steps) == ["0"] * 5


def test_measurements_add_up_and_change_nothing(qudit: Bench) -> None:
    pulse = ["rlx", [0], [math.pi]]
    assert memory(qudit, MEASURE, pulse, MEASURE, MEASURE, shots=2) == list("001111")


def test_a_seed_makes_it_reproducible(qudit: Bench) -> None:
    steps = [load(50), ["rlx", [0], [1.0]], ["sq_full", [0], [0.5, 0.1, 0.02]], MEASURE]
    job = {f"experiment_{n}": experiment(*steps, shots=50, seed=n % 2) for n in range(4)}
    one = [item["data"]["memory"] for item in results(qudit, job)]
    assert one == [item["data"]["memory"] for item in results(qudit, job)]
    assert one[0] == one[2] != one[1]
    assert memory(qudit, *steps, shots=50) != memory(qudit, *steps, shots=50)


@pytest.mark.parametrize(
    "steps",
    [
        [load(500)],
        [load(1)],
        [load(50.0)],
        [["rlx", [0], [2 * math.pi]], ["rlz", [0], [0]], ["rlz2", [0], [20 * math.pi]]],
        [["sq_full", [0], [5e6 * math.pi, 0, 5e6 * math.pi]]],
        [["barrier", [], []]],
    ],
)
def test_the_limits_are_allowed(qudit: Bench, steps: list[list[Any]]) -> None:
    assert len(memory(qudit, *steps, MEASURE)) == 5


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (["foo", [0], []], "experiment_0.instructions.0: unknown gate 'foo', known are rlx, rlz,"),
        (["rly", [0], [1]], "unknown gate 'rly', did you mean rlz?"),
        (["rlx", [1], [1]], "rlx acts on wire 0 only: its wires must be [0]"),
        (["rlx", [0, 0], [1]], "rlx acts on wire 0 only"),
        (["rlx", [0], [1, 2]], "rlx takes 1 (theta) parameters, got 2"),
        (["sq_full", [0], [1]], "sq_full takes 3 (omega, delta, chi) parameters, got 1"),
        (["measure", [0], [1]], "measure takes none parameters, got 1"),
        (["rlx", [0], [-0.1]], "theta of rlx must be between 0 and 2 pi, got -0.1"),
        (["rlx", [0], [6.2832]], "theta of rlx must be between 0 and 2 pi, got 6.2832"),
        (["rlz", [0], [6.2832]], "delta of rlz must be between 0 and 2 pi, got 6.2832"),
        (["rlz2", [0], [63]], "chi of rlz2 must be between 0 and 20 pi, got 63"),
        (["sq_full", [0], [2e7, 0, 0]], "omega of sq_full must be between 0 and 5e+06 pi"),
        (["sq_full", [0], [0, 0, -1]], "chi of sq_full must be between 0 and 5e+06 pi, got -1"),
        (["sq_full", [0], [0, 2e7, 0]], "delta of sq_full must be between 0 and 5e+06 pi"),
        (["load", [0], [501]], "experiment_0.instructions.0: at most 500 atoms, got 501"),
        (["load", [0], [0]], "load takes a whole number of atoms from 1 up, got 0"),
        (["load", [0], [2.5]], "load takes a whole number of atoms from 1 up, got 2.5"),
        (["load", [0], [True]], "the parameters of load must be a list of numbers"),
        (["rlx", [0], ["1"]], "the parameters of rlx must be a list of numbers"),
        (["rlx", [0]], "an instruction must be [name, [wires], [params]]"),
        ("rlx", "an instruction must be [name, [wires], [params]]"),
        ([["rlx"], [0], [1]], "unknown gate"),
        (["load", [0], [10**400]], "the parameters of load must be a list of numbers"),
    ],
)
def test_wrong_instructions_are_explained(qudit: Bench, step: Any, reason: str) -> None:
    with pytest.raises(PayloadInvalid) as error:
        qudit.run({"experiment_0": experiment(step)})
    assert reason in str(error.value)
    assert str(error.value).startswith("experiment_0.instructions.0: ")


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({}, "the job has no experiments"),
        ([], "input should be an object"),
        ({"exp": experiment()}, "'exp' is not an experiment name, write experiment_0"),
        ({"experiment_²": experiment()}, "is not an experiment name"),
        ({"experiment_": experiment()}, "is not an experiment name"),
        ({"experiment_1001": experiment()}, "experiment_1001: the number is at most 1000"),
        ({"experiment_0": experiment(shots=0)}, "experiment_0.shots: input should be greater"),
        ({"experiment_0": experiment(shots=1_000_001)}, "at most 1000000 shots, got 1000001"),
        ({"experiment_0": experiment(num_wires=2)}, "experiment_0.num_wires: input should be 1"),
        ({"experiment_0": experiment(seed=-1)}, "experiment_0.seed: input should be greater"),
        ({"experiment_0": experiment(wire_order="random")}, "experiment_0.wire_order"),
        ({"experiment_0": {"shots": 3}}, "experiment_0.instructions: is missing; experiment_0.num"),
        ({"experiment_0": 7}, "experiment_0"),
        (
            {f"experiment_{n}": experiment(MEASURE, shots=1_000_000) for n in range(11)},
            "the job asks for 11000000 samples in all, at most 10000000 are taken",
        ),
    ],
)
def test_wrong_jobs_are_explained(qudit: Bench, job: Json, reason: str) -> None:
    with pytest.raises(PayloadInvalid) as error:
        qudit.run(job)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_limits_can_be_lowered_and_not_raised(bench: MakeBench) -> None:
    options: dict[str, Json] = {"max_shots": 10, "max_atoms": 5, "max_experiments": 2}
    it = bench("singlequdit", isolation="thread", options=options)
    with pytest.raises(PayloadInvalid, match="at most 10 shots"):
        it.run({"experiment_0": experiment(shots=11)})
    with pytest.raises(PayloadInvalid, match="at most 5 atoms"):
        it.run({"experiment_0": experiment(load(6))})
    with pytest.raises(PayloadInvalid, match="the number is at most 2"):
        it.run({"experiment_3": experiment()})
    with pytest.raises(PayloadInvalid, match="3 experiments, at most 2 are taken"):
        it.run({f"experiment_{n}": experiment() for n in range(3)})
    with pytest.raises(ConfigError, match="max_atoms must be between 1 and 500, got 501"):
        bench("singlequdit", isolation="thread", options={"max_atoms": 501})


def test_a_full_job_fits_into_a_result(bench: MakeBench) -> None:
    it = bench("singlequdit")
    job = {"experiment_0": experiment(load(500), ["rlx", [0], [1]], MEASURE, shots=1_000_000)}
    found = results(it, job)
    assert len(found[0]["data"]["memory"]) == 1_000_000
