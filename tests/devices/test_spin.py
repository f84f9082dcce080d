"""The simulator against closed forms.

Conventions: index k, m = L - k, gates exp(-i parameter operator), start at k = 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import expm
from scipy.special import gammaln, xlog1py, xlogy
from scipy.stats import chisquare

from spooler.devices.handlers import spin
from spooler.devices.handlers.spin import State

ATOMS = st.integers(1, 60)
ANGLE = st.floats(0, 2 * math.pi)


def dense(atoms: int) -> tuple[Any, Any, Any]:
    """Lx, Ly, Lz as matrices, from the ladder operators: <k-1| L+ |k> = sqrt(L(L+1)-m(m+1))."""
    length = atoms / 2
    m = length - np.arange(1, atoms + 1)
    plus = np.diag(np.sqrt(length * (length + 1) - m * (m + 1)), k=1)
    return (plus + plus.T) / 2, (plus - plus.T) / 2j, np.diag(length - np.arange(atoms + 1))


def some_state(atoms: int, seed: int = 7) -> State:
    generator = np.random.default_rng(seed)
    state = generator.normal(size=atoms + 1) + 1j * generator.normal(size=atoms + 1)
    return np.asarray(state / np.linalg.norm(state))


def mean_lz(state: State) -> float:
    return float(spin.probabilities(state) @ spin.lz(spin.atoms_of(state)))


def test_the_operators_are_a_spin() -> None:
    """[Lx, Ly] = i Lz and L^2 = L(L+1): with Lx as the simulator has it."""
    for atoms in (1, 2, 5, 20):
        lx, ly, lz = dense(atoms)
        beside = spin.lx_beside(atoms)
        assert_allclose(np.diag(beside, 1) + np.diag(beside, -1), lx, atol=1e-12)
        assert_allclose(np.diag(spin.lz(atoms)), lz)
        assert_allclose(lx @ ly - ly @ lx, 1j * lz, atol=1e-10)
        total = lx @ lx + ly @ ly + lz @ lz
        assert_allclose(total, atoms / 2 * (atoms / 2 + 1) * np.eye(atoms + 1), atol=1e-10)


@pytest.mark.parametrize("atoms", [1, 2, 7, 30])
def test_gates_are_the_exponentials_of_their_operators(atoms: int) -> None:
    lx, _, lz = dense(atoms)
    state = some_state(atoms)
    cases: list[tuple[State, Any]] = [
        (spin.rlx(state, 0.7), 0.7 * lx),
        (spin.rlz(state, 1.3), 1.3 * lz),
        (spin.rlz2(state, 2.1), 2.1 * lz @ lz),
        (spin.sq_full(state, 0.4, 1.1, 0.3), 0.4 * lx + 1.1 * lz + 0.3 * lz @ lz),
        (spin.sq_full(state, 0.0, 1.1, 0.3), 1.1 * lz + 0.3 * lz @ lz),
    ]
    for got, generator in cases:
        assert_allclose(got, expm(-1j * generator) @ state, atol=1e-9)


@given(ATOMS | st.just(500), ANGLE)
@settings(deadline=None)
def test_rabi_flopping_of_a_coherent_state(atoms: int, angle: float) -> None:
    """After rlx the mean is L cos(angle), and index k is binomial with p = sin^2(angle / 2)."""
    state = spin.rlx(spin.ground(atoms), angle)
    assert_allclose(mean_lz(state), atoms / 2 * math.cos(angle), atol=1e-9 * atoms)
    k, p = np.arange(atoms + 1), math.sin(angle / 2) ** 2
    ways = gammaln(atoms + 1) - gammaln(k + 1) - gammaln(atoms - k + 1)
    expected = np.exp(ways + xlogy(k, p) + xlog1py(atoms - k, -p))
    assert_allclose(spin.probabilities(state), expected, atol=1e-11)


@given(st.integers(2, 500), st.floats(0.001, 0.5))
@settings(deadline=None, max_examples=50)
def test_one_axis_twisting_squeezes_as_kitagawa_and_ueda_say(atoms: int, mu: float) -> None:
    """M. Kitagawa and M. Ueda, Phys. Rev. A 47, 5138 (1993), one-axis twisting.

    exp(-i (mu / 2) Lz^2) on a coherent state of spin S on the equator gives, across the mean
    spin, the smallest variance S/2 {1 + (S - 1/2)/2 [A - sqrt(A^2 + B^2)]} with
    A = 1 - cos^(2S-2) mu and B = 4 sin(mu/2) cos^(2S-2)(mu/2); the mean spin shrinks to
    S cos^(2S-1)(mu/2).
    """
    s = atoms / 2
    state = spin.rlz2(spin.rlx(spin.ground(atoms), math.pi / 2), mu / 2)
    # rlx(pi/2) turns +z to -y, so the plane across the mean spin is x-z.
    m, beside = spin.lz(atoms), spin.lx_beside(atoms)
    lx_state = np.zeros_like(state)
    lx_state[:-1] += beside * state[1:]
    lx_state[1:] += beside * state[:-1]
    plus = np.vdot(state[:-1], 2 * beside * state[1:])  # <L+> = <Lx> + i <Ly>
    assert_allclose(abs(plus), s * math.cos(mu / 2) ** (2 * s - 1), atol=1e-8 * s)
    assert_allclose(plus.imag, -abs(plus), atol=1e-8 * s)
    xx = np.vdot(lx_state, lx_state).real
    zz = np.vdot(m * state, m * state).real
    xz = np.vdot(lx_state, m * state).real
    smallest = np.linalg.eigvalsh(np.array([[xx, xz], [xz, zz]]))[0]
    a = 1 - math.cos(mu) ** (2 * s - 2)
    b = 4 * math.sin(mu / 2) * math.cos(mu / 2) ** (2 * s - 2)
    expected = s / 2 * (1 + (s - 0.5) / 2 * (a - math.hypot(a, b)))
    assert_allclose(smallest, expected, atol=1e-8 * s * s)


def test_squeezing_shows_in_the_samples() -> None:
    """The gates alone reach below the projection noise N/4 and above it, at right angles."""
    atoms, chi = 100, 0.03
    twisted = spin.rlz2(spin.rlx(spin.ground(atoms), math.pi / 2), chi)
    # Turning about y = rlz(pi/2), rlx(angle), rlz(-pi/2 = 3 pi/2) up to a global phase.
    variances = []
    for angle in np.linspace(0, math.pi, 91):
        turned = spin.rlz(twisted, math.pi / 2)
        turned = spin.rlx(turned, angle)
        p, m = spin.probabilities(turned), spin.lz(atoms)
        variances.append(float(p @ m**2 - (p @ m) ** 2))
    assert min(variances) < 0.25 * atoms / 4
    assert max(variances) > 4 * atoms / 4


@given(ATOMS, ANGLE, ANGLE, st.floats(0, 20 * math.pi), st.integers(0, 100))
@settings(deadline=None)
def test_gates_are_unitary_and_diagonal_ones_commute(
    atoms: int, x: float, z: float, zz: float, seed: int
) -> None:
    state = some_state(atoms, seed)
    for after in (
        spin.rlx(state, x),
        spin.rlz(state, z),
        spin.rlz2(state, zz),
        spin.sq_full(state, x, z, zz),
    ):
        assert_allclose(np.linalg.norm(after), 1, atol=1e-10)
    assert_allclose(spin.rlz(spin.rlz2(state, zz), z), spin.rlz2(spin.rlz(state, z), zz), atol=1e-9)
    assert_allclose(spin.sq_full(state, 0, z, zz), spin.rlz(spin.rlz2(state, zz), z), atol=1e-9)


@given(ATOMS, ANGLE, ANGLE, st.integers(0, 100))
@settings(deadline=None)
def test_rotations_add_up_and_can_be_undone(atoms: int, one: float, two: float, seed: int) -> None:
    state = some_state(atoms, seed)
    assert_allclose(spin.rlx(spin.rlx(state, one), two), spin.rlx(state, one + two), atol=1e-9)
    assert_allclose(spin.rlx(spin.rlx(state, one), -one), state, atol=1e-9)
    # A full turn is the identity up to (-1)^N.
    assert_allclose(spin.rlx(state, 2 * math.pi), (-1) ** atoms * state, atol=1e-9)
    assert_allclose(spin.sq_full(state, one, 0, 0), spin.rlx(state, one), atol=1e-9)
    assert_allclose(
        spin.sq_full(spin.sq_full(state, one, two, 0.1), -one, -two, -0.1), state, atol=1e-9
    )


@given(ATOMS, ANGLE, st.floats(0, 20 * math.pi))
def test_diagonal_gates_leave_the_populations_alone(atoms: int, z: float, zz: float) -> None:
    state = some_state(atoms)
    after = spin.rlz2(spin.rlz(state, z), zz)
    assert_allclose(spin.probabilities(after), spin.probabilities(state), atol=1e-12)


def test_the_largest_parameters_stay_unitary() -> None:
    state = spin.rlx(spin.ground(500), 1.0)
    largest = 5e6 * math.pi
    after = spin.sq_full(state, largest, largest, largest)
    assert_allclose(np.linalg.norm(after), 1, atol=1e-9)


def test_samples_follow_the_probabilities() -> None:
    state = spin.rlx(spin.ground(10), 1.1)
    drawn = spin.sample(state, 100_000, np.random.default_rng(1))
    expected = 100_000 * spin.probabilities(state)
    seen = np.bincount(drawn, minlength=11)
    common = expected > 5
    seen_all = [*seen[common], seen[~common].sum()]
    expected_all = [*expected[common], expected[~common].sum()]
    assert chisquare(seen_all, expected_all).pvalue > 0.001


def test_samples_never_leave_the_indices() -> None:
    class Edge(np.random.Generator):
        def random(self, size: int) -> Any:  # type: ignore[override]
            return np.full(size, np.nextafter(1.0, 0.0))

    generator = Edge(np.random.PCG64(1))
    short = 0
    for angle in np.linspace(0.1, 3, 200):
        state = spin.rlx(spin.ground(50), angle)
        short += np.cumsum(spin.probabilities(state))[-1] <= np.nextafter(1.0, 0.0)
        assert spin.sample(state, 5, generator).max() <= 50
    assert short > 0
