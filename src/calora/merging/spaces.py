"""The coordinates in which updates of one module are compared and merged entry by entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calora.adapter import Factors
from calora.linalg import NOTHING, Tall
from calora.storage import Array

Form = Callable[[], Array]


@dataclass(frozen=True)
class Coordinates:
    """Updates of one module as matrices of one shape, and the way back.

    Args:
        forms: Each makes one update's matrix, anew each time.
        back: From a matrix of that shape to an update: factors, or [out, in] itself.
    """

    forms: Sequence[Form]
    back: Callable[[Array], Factors | Array]


Space = Callable[[Sequence[Factors]], Coordinates]


def product_space(pairs: Sequence[Factors]) -> Coordinates:
    """The updates themselves, [out, in]."""
    return Coordinates([pair.update for pair in pairs], lambda matrix: matrix)


def knots_space(pairs: Sequence[Factors]) -> Coordinates:
    """The space of KnOTS (Stoica et al., 2025): one SVD of all updates side by side aligns them.

    [dW_1, ..., dW_N] = U S [V_1, ..., V_N]^T; update i is U (S V_i^T), and S V_i^T, [at most R, in], is what is merged.
    """
    pairs = [pair.balanced() for pair in pairs]
    left, parts = side_by_side(pairs)

    def form(pair: Factors, part: Array) -> Form:
        return lambda: part @ pair.a

    return Coordinates([form(*both) for both in zip(pairs, parts, strict=True)], lambda merged: Factors(merged, left))


def core_space(pairs: Sequence[Factors]) -> Coordinates:
    """Core space (Panariello et al., 2025): all updates in orthonormal bases that they share, without loss.

    Update i is U M_i V^T, with U the left singular vectors of [dW_1, ..., dW_N] and V the right ones of the updates
    below each other; M_i is at most [R, R]. The work takes those of the B_i beside and the A_i below each other, which
    span the same, but change with how an update is split into B and A.
    """
    pairs = [pair.balanced() for pair in pairs]
    left, _ = side_by_side(pairs)
    right, _ = side_by_side([pair.transposed() for pair in pairs])

    def form(pair: Factors) -> Form:
        return lambda: (left.T @ pair.b) @ (pair.a @ right)

    return Coordinates([form(pair) for pair in pairs], lambda core: Factors(right.T, left @ core))


def side_by_side(pairs: Sequence[Factors]) -> tuple[Array, list[Array]]:
    """The left singular vectors of [dW_1, ..., dW_N], from bases of the factors: no update is formed.

    Returns:
        U [out, n], n the rank of all updates together, and for each update the [n, r_i] matrix U^T B_i: U^T dW_i is
        that times A_i.
    """
    left = Tall(np.concatenate([pair.b for pair in pairs], axis=1))
    tops = np.split(left.coefficients, np.cumsum([pair.rank for pair in pairs])[:-1], axis=1)
    core = [top @ Tall(pair.a.T).coefficients.T for top, pair in zip(tops, pairs, strict=True)]
    u, s, _ = np.linalg.svd(np.concatenate(core, axis=1), full_matrices=False)
    u = u[:, : max(1, np.count_nonzero(s > NOTHING * s[0]))]
    return left.basis(u), [(u.T @ top).astype(np.float32) for top in tops]
