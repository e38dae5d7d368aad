"""SLERP and the Karcher mean: from one update to others along the arcs of a sphere."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.merging.geometry import Doubles, adapter_gram, cosines, gram
from calora.merging.inputs import checked, modules
from calora.merging.linear import weighted_sum
from calora.merging.registry import merge_method

_PARALLEL = 0.9995
Scope = Annotated[
    Literal["adapter", "module"], Field(description="whether the angle is that of the whole adapters or of each module")
]


@merge_method("slerp", title="SLERP", source="https://doi.org/10.1145/325334.325242")
def slerp(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    t: Annotated[float, Field(ge=0, le=1, description="from 0 (the first) to 1 (the second)")] = 0.5,
    scope: Scope = "adapter",
) -> Adapter:
    """Interpolate the updates of two adapters spherically (Shoemake, 1985), each update taken as one long vector.

        dW' = sin((1 - t) theta) / sin(theta) v_1 + sin(t theta) / sin(theta) v_2,   v_i = lambda_i dW_i,

    theta the angle between v_1 and v_2, over all modules together or module by module. It comes from the factors' Gram
    matrices; no update is formed, and the result is exact at rank r_1 + r_2. Where |cos(theta)| is above 0.9995, or one
    of the two is zero, the arc is a line or undefined, and the result is (1 - t) v_1 + t v_2.

    The updates are interpolated, not the merged weights: an update is so small a part of a weight that the arc
    between two merged weights is a line.

    Args:
        adapters: Exactly two, of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.
        t: Where on the arc.
        scope: What is taken as one vector; mergekit takes each tensor by itself.

    Raises:
        CaloraError: There are not two adapters, they differ in shapes, or t is outside 0 to 1.
    """
    weights = checked(adapters, strengths, 1.0)
    if len(adapters) != 2:
        raise CaloraError(
            f"SLERP is between two adapters, not {len(adapters)}", "merge more of them with karcher, product or ties"
        )

    def along(products: Doubles) -> Doubles:
        cosine = cosines(products)[0, 1] if products.diagonal().all() else 1.0
        if abs(cosine) > _PARALLEL:
            return np.array([1 - t, t])
        theta = math.acos(cosine)
        return np.array([math.sin((1 - t) * theta), math.sin(t * theta)]) / math.sin(theta)

    return combined(adapters, weights, along, scope)


@merge_method("karcher", title="Karcher mean", source="https://arxiv.org/abs/2603.04972")
def karcher(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    scope: Scope = "adapter",
    steps: Annotated[int, Field(ge=1, description="at most so many steps, 1 or more")] = 100,
) -> Adapter:
    """Take the mean on the sphere (Karcher, 1977): the direction to which the sum of squared angles is least.

    The mean is of the directions of v_i = lambda_i dW_i, each taken as one long vector, weighted by |lambda_i|; its
    length is the mean of the |v_i|. For two of equal length this is SLERP at t = 1/2. Every step stays in the span
    of the updates, so that it is done on their coefficients, and the result is exact at rank sum r_i. Directions that
    cancel each other have no mean; the first one's is taken.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part.
        scope: What is taken as one vector; mergekit takes each tensor by itself.
        steps: Of the iteration, which ends by itself when it moves by less than 1e-7.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """
    weights = checked(adapters, strengths, 1.0)
    sizes = np.abs(weights)

    def mean(products: Doubles) -> Doubles:
        lengths = np.sqrt(np.maximum(0.0, products.diagonal()))
        shares = np.where(lengths > 0, sizes, 0.0)
        if not shares.any():
            return np.zeros(len(adapters))
        directions = _karcher(cosines(products), shares / shares.sum(), steps)
        length = lengths.sum() / np.count_nonzero(sizes)
        found: Doubles = length * directions / np.where(lengths > 0, lengths, 1.0)
        return found

    return combined(adapters, weights, mean, scope)


def _karcher(cosine: Doubles, shares: Doubles, steps: int) -> Doubles:
    """Coefficients of unit vectors in their weighted mean on the sphere.

    Args:
        cosine: Between the unit vectors, [N, N].
        shares: Their weights, of sum 1.
        steps: The most.
    """

    def length(coefficients: Doubles) -> float:
        return math.sqrt(max(0.0, float(coefficients @ cosine @ coefficients)))

    mean = shares if length(shares) > 1e-7 else np.eye(len(shares))[np.argmax(shares > 0)]
    mean = mean / length(mean)
    for _ in range(steps):
        dots = np.clip(cosine @ mean, -1.0, 1.0)
        angles = np.arccos(dots)
        sines = np.sin(angles)
        rates = shares * np.divide(angles, sines, out=np.ones_like(angles), where=sines > 1e-9)
        tangent = rates - (rates @ dots) * mean
        size = length(tangent)
        if size < 1e-7:
            break
        mean = math.cos(size) * mean + math.sin(size) / size * tangent
        mean = mean / length(mean)
    return mean


def combined(
    adapters: Sequence[Adapter], weights: Sequence[float], rule: Callable[[Doubles], Doubles], scope: Scope
) -> Adapter:
    """A weighted sum whose coefficients come from the inner products of the weighted updates.

    Args:
        adapters: Adapters that fit each other.
        weights: One an adapter.
        rule: From inner products [N, N] to N coefficients.
        scope: Whether one set of coefficients is made for all modules, or one for each.
    """
    scales = np.outer(weights, weights)
    common = None if scope == "module" else rule(scales * adapter_gram(adapters)) * weights
    merged = {}
    for module in modules(adapters):
        pairs = [adapter.modules.get(module) for adapter in adapters]
        found = rule(scales * gram(pairs)) * weights if common is None else common
        merged[module] = weighted_sum(
            [(float(one), pair) for one, pair in zip(found, pairs, strict=True) if pair is not None]
        )
    return Adapter(merged)
