"""The coordinates in which updates of one module are compared and merged entry by entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calora.adapter import Factors
from calora.linalg import Doubles, Tall, left_vectors
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
    joint = Joint(pairs)
    u = left_vectors(np.concatenate(joint.cores, axis=1))
    left = joint.left.basis(u)

    def form(pair: Factors, part: Doubles, ratio: Array) -> Form:
        turned = (u.T @ part * ratio).astype(np.float32)
        return lambda: turned @ pair.a

    parts = zip(pairs, joint.lefts, joint.ratios, strict=True)
    return Coordinates([form(*each) for each in parts], lambda merged: Factors(merged, left))


def core_space(pairs: Sequence[Factors]) -> Coordinates:
    """Core space (Panariello et al., 2025): all updates in orthonormal bases that they share, without loss.

    Update i is U M_i V^T, with U the left singular vectors of [dW_1, ..., dW_N] and V the right ones of the updates
    below each other; M_i is at most [R, R]. The work takes those of the B_i beside and the A_i below each other, which
    span the same, but change with how an update is split into B and A.
    """
    joint = Joint(pairs)
    u = left_vectors(np.concatenate(joint.cores, axis=1))
    v = left_vectors(np.concatenate([core.T for core in joint.cores], axis=1))

    right = joint.right.basis(v)

    def form(core: Doubles) -> Form:
        return lambda: (u.T @ core @ v).astype(np.float32)

    return Coordinates([form(core) for core in joint.cores], lambda core: Factors(right.T, joint.left.basis(u @ core)))


class Joint:
    """Updates of one module in orthonormal bases of all columns and of all rows, from which nothing is large any more.

    Attributes:
        ratios: By which each A_i is multiplied and B_i divided, so that both are equally long.
        left: Of [B_1, ..., B_N], so divided.
        right: Of the A_i below each other, transposed, so multiplied.
        lefts: Each B_i, divided, in the first basis, [k, r_i].
        cores: Each update in both bases, [k, l].
    """

    def __init__(self, pairs: Sequence[Factors]) -> None:
        self.ratios = [pair.balance() for pair in pairs]
        ends = np.cumsum([pair.rank for pair in pairs])[:-1]
        # Scaled while they are joined, in the precision that is computed in: each further copy is a pass over memory.
        left = np.concatenate([pair.b for pair in pairs], axis=1, dtype=np.float64)
        right = np.concatenate([pair.a for pair in pairs], axis=0, dtype=np.float64)
        ratio = np.concatenate(self.ratios)
        left /= ratio
        right *= ratio[:, None]
        self.left, self.right = Tall(left), Tall(right.T)
        self.lefts = np.split(self.left.coefficients, ends, axis=1)
        rights = np.split(self.right.coefficients, ends, axis=1)
        self.cores: list[Doubles] = [b @ a.T for b, a in zip(self.lefts, rights, strict=True)]
