"""Tall thin matrices, which factors are: what QR gives, from their Gram matrices."""

import numpy as np
import numpy.typing as npt

from calora.storage import Array

Doubles = npt.NDArray[np.float64]
NOTHING = 1e-6
"""What a singular value is less than, as a share of the largest, where it is 0 but for rounding in float32."""


class Tall:
    """A matrix [rows, n] as (an orthonormal basis [rows, k]) times (coefficients [k, n]), the basis made on demand.

    From the eigenvectors of the Gram matrix, in float64: C^T C = V L V^T gives C = (C V L^-1/2)(L^1/2 V^T). It squares
    the condition number, which double precision affords to what is known in single. For some dozens of columns it is
    several times as fast as LAPACK's QR, and what is dependent is left out: k is the rank, or 1 of a zero matrix.

    Args:
        columns: [rows, n], as exact as float32.
    """

    def __init__(self, columns: Array | Doubles) -> None:
        self.columns: Doubles = columns.astype(np.float64, copy=False)
        values, vectors = np.linalg.eigh(self.columns.T @ self.columns)
        kept = values > NOTHING**2 * values[-1]
        if not kept.any():
            kept[-1], values[-1] = True, 0.0
        roots = np.sqrt(values[kept])
        self._vectors: Doubles = vectors[:, kept]
        self._inverse: Doubles = self._vectors / np.where(roots > 0, roots, 1.0)
        self.coefficients: Doubles = (self._vectors * roots).T

    def basis(self, turned: Array | Doubles | None = None) -> Array:
        """The basis, or some combinations of it.

        Args:
            turned: [k, m]; the identity if None.

        Returns:
            [rows, m], float32; 0 for a zero matrix.
        """
        inverse = self._inverse if turned is None else self._inverse @ turned
        return (self.columns @ inverse).astype(np.float32)

    def polar(self) -> Array:
        """The nearest matrix with orthonormal columns, C (C^T C)^-1/2: [rows, n]."""
        return self.basis(self._vectors.T)


def polar(columns: Array | Doubles) -> Array:
    """The nearest matrix with orthonormal columns, C (C^T C)^-1/2: [rows, n].

    Dependent columns share what directions there are, and the result has fewer of them.
    """
    return Tall(columns).polar()


def left_vectors(matrix: Doubles) -> Doubles:
    """Left singular vectors of a small matrix [k, n], those of the largest values first, without those of value 0.

    From the eigenvectors of its Gram matrix, as in `Tall`.
    """
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    kept = max(1, np.count_nonzero(values > NOTHING**2 * values[-1]))
    return vectors[:, ::-1][:, :kept]
