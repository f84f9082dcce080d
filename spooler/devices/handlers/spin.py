"""One collective spin of N atoms, exactly: states, gates, samples.

A state is a complex vector of N + 1 amplitudes. Index k means magnetic number m = L - k, with
spin length L = N / 2. A gate with parameter `a` and operator `A` is exp(-i a A). Angles are in
radians. Cost of a gate: O(N) where it is diagonal, O(N^2) else, plus once per N (or set of
parameters) the eigenvectors of a tridiagonal matrix.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

State: TypeAlias = NDArray[np.complex128]
Reals: TypeAlias = NDArray[np.float64]

#: Eigenvectors kept: at N = 500 each set takes 2 MB.
_KEPT = 8


def ground(atoms: int) -> State:
    """All atoms in the first state: index 0, m = +L."""
    state = np.zeros(atoms + 1, dtype=np.complex128)
    state[0] = 1.0
    return state


def atoms_of(state: State) -> int:
    """N of a state."""
    return len(state) - 1


def lz(atoms: int) -> Reals:
    """The diagonal of Lz: L, L - 1, ..., -L."""
    return atoms / 2 - np.arange(atoms + 1, dtype=np.float64)


def lx_beside(atoms: int) -> Reals:
    """The off-diagonal of Lx = (L+ + L-)/2: sqrt((k + 1)(N - k)) / 2 between k and k + 1."""
    k = np.arange(atoms, dtype=np.float64)
    return np.sqrt((k + 1) * (atoms - k)) / 2


def rlx(state: State, angle: float) -> State:
    """exp(-i angle Lx)."""
    vectors = _lx_vectors(atoms_of(state))
    # The eigenvalues of Lx are those of Lz, known without rounding; solvers give them ascending.
    return _evolve(state, lz(atoms_of(state))[::-1] * angle, vectors)


def rlz(state: State, angle: float) -> State:
    """exp(-i angle Lz)."""
    return np.asarray(state * np.exp(-1j * angle * lz(atoms_of(state))))


def rlz2(state: State, angle: float) -> State:
    """exp(-i angle Lz^2), one-axis twisting."""
    return np.asarray(state * np.exp(-1j * angle * lz(atoms_of(state)) ** 2))


def sq_full(state: State, omega: float, delta: float, chi: float) -> State:
    """exp(-i (omega Lx + delta Lz + chi Lz^2)).

    The phases are products as large as chi L^2, known to about 1e-16 of the largest: with
    parameters near their limits (1e7) and hundreds of atoms they carry no physics any more.
    """
    m = lz(atoms_of(state))
    if omega == 0:
        return np.asarray(state * np.exp(-1j * (delta * m + chi * m**2)))
    energies, vectors = _full_eigen(atoms_of(state), omega, delta, chi)
    return _evolve(state, energies, vectors)


def probabilities(state: State) -> Reals:
    """|amplitude|^2 of each index, normalised; shape (N + 1,)."""
    weights = np.abs(state) ** 2
    return np.asarray(weights / weights.sum())


def sample(state: State, shots: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`shots` independent indices drawn from the probabilities; shape (shots,)."""
    edges = np.cumsum(probabilities(state))
    # Without this a draw just below 1 could land beyond an edge rounded to just below 1.
    edges[-1] = 1.0
    return np.searchsorted(edges, generator.random(shots), side="right")


def _evolve(state: State, phases: Reals, vectors: Reals) -> State:
    """exp(-i H) for H = vectors @ diag(phases) @ vectors.T, `vectors` real."""
    inside = _times(vectors.T, state) * np.exp(-1j * phases)
    return _times(vectors, inside)


def _times(matrix: Reals, state: State) -> State:
    """A real matrix times a complex vector, without making the matrix complex."""
    parts = matrix @ state.view(np.float64).reshape(-1, 2)
    return np.ascontiguousarray(parts).view(np.complex128).reshape(-1)


@lru_cache(maxsize=_KEPT)
def _lx_vectors(atoms: int) -> Reals:
    return np.asarray(eigh_tridiagonal(np.zeros(atoms + 1), lx_beside(atoms))[1])


@lru_cache(maxsize=_KEPT)
def _full_eigen(atoms: int, omega: float, delta: float, chi: float) -> tuple[Reals, Reals]:
    m = lz(atoms)
    energies, vectors = eigh_tridiagonal(delta * m + chi * m**2, omega * lx_beside(atoms))
    return np.asarray(energies), np.asarray(vectors)
