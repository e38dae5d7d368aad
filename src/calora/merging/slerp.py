"""SLERP: from one update to another along the arc between them."""

import math
from collections.abc import Sequence

import numpy as np

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging.inputs import checked
from calora.merging.linear import linear_product
from calora.merging.registry import merge_method

_PARALLEL = 0.9995


@merge_method("slerp", title="SLERP", source="https://doi.org/10.1145/325334.325242")
def slerp(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None, *, t: float = 0.5) -> Adapter:
    """Interpolate the updates of two adapters spherically (Shoemake, 1985), each update taken as one long vector.

        dW' = sin((1 - t) theta) / sin(theta) v_1 + sin(t theta) / sin(theta) v_2,   v_i = lambda_i dW_i,

    theta the angle between v_1 and v_2 over all modules together. It comes from the factors' Gram matrices; no update
    is formed, and the result is exact at rank r_1 + r_2. Where |cos(theta)| is above 0.9995, or one of the two is zero,
    the arc is a line or undefined, and the result is (1 - t) v_1 + t v_2.

    The updates are interpolated, not the merged weights: an update is so small a part of a weight that the arc
    between two merged weights is a line.

    Args:
        adapters: Exactly two, of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.
        t: From 0 (the first) to 1 (the second).

    Raises:
        CaloraError: There are not two adapters, they differ in shapes, or t is outside 0 to 1.
    """
    weights = checked(adapters, strengths, 1.0)
    if len(adapters) != 2:
        raise CaloraError(
            f"SLERP is between two adapters, not {len(adapters)}", "merge more of them with product, ties or dare"
        )
    if not 0 <= t <= 1:
        raise CaloraError(f"t = {t} is outside 0 to 1", "0 is the first adapter, 1 the second")
    near, far = _coefficients(_cosine(adapters, weights), t)
    return linear_product(adapters, [near * weights[0], far * weights[1]])


def _coefficients(cosine: float, t: float) -> tuple[float, float]:
    """How much of each end of an arc of this cosine; of a line where the arc is none."""
    if abs(cosine) > _PARALLEL:
        return 1 - t, t
    theta = math.acos(cosine)
    return math.sin((1 - t) * theta) / math.sin(theta), math.sin(t * theta) / math.sin(theta)


def _cosine(adapters: Sequence[Adapter], weights: Sequence[float]) -> float:
    """Of the angle between two adapters' weighted updates; 1 where one of them is zero, which has no direction."""
    first, second = (adapter.modules for adapter in adapters)
    inner = sum(_inner(pair, second[module]) for module, pair in first.items() if module in second)
    squares = [sum(_inner(pair, pair) for pair in modules.values()) for modules in (first, second)]
    norms = math.prod(
        abs(weight) * math.sqrt(max(0.0, square)) for weight, square in zip(weights, squares, strict=True)
    )
    return math.prod(weights) * inner / norms if norms else 1.0


def _inner(first: Factors, second: Factors) -> float:
    """<B_1 A_1, B_2 A_2> = sum of (B_1^T B_2) * (A_1 A_2^T), entry by entry, without forming the updates."""
    a1, b1, a2, b2 = (half.astype(np.float64) for half in (first.a, first.b, second.a, second.b))
    return float(np.sum((b1.T @ b2) * (a1 @ a2.T)))
