"""Linear merges: the paper's mean of the factors, and the exact weighted sum of the updates."""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from calora.adapter import Adapter, Factors
from calora.merging.inputs import checked, modules, one_rank, weighted
from calora.merging.registry import merge_method


@merge_method(
    "factors",
    title="Linear merge of the factors",
    source="https://arxiv.org/abs/2507.16083",
    aliases=("linear_factors",),
)
def linear_factors(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    root: Annotated[bool, Field(description="true or false: whether A and B get the roots of the strengths")] = False,
) -> Adapter:
    """Merge the factors separately: A' = sum w_i A_i, B' = sum w_i B_i (Bohdal et al., 2025, the initial merge).

    Update i is left at w_i squared of its strength, and cross terms w_i w_j B_i A_j come with it. With `root`, A gets
    sign(w_i) sqrt|w_i| and B sqrt|w_i|, which leaves update i at w_i: PEFT's `linear`, where 1/2 each is twice the
    mean.

    Args:
        adapters: Adapters of one rank.
        strengths: w_i; 1/N each (the mean) if None.
        root: Whether each factor gets the root.

    Raises:
        CaloraError: The adapters differ in rank or in shapes.
    """
    weights = checked(adapters, strengths, 1 / max(1, len(adapters)))
    on_a = [math.copysign(abs(weight) ** 0.5, weight) for weight in weights] if root else weights
    on_b = [abs(weight) ** 0.5 for weight in weights] if root else weights
    merged = {}
    for module in modules(adapters):
        pairs = [adapter.modules.get(module) for adapter in adapters]
        one_rank(module, [pair for pair in pairs if pair is not None])
        merged[module] = Factors(
            np.sum([w * pair.a for w, pair in zip(on_a, pairs, strict=True) if pair], axis=0, dtype=np.float32),
            np.sum([w * pair.b for w, pair in zip(on_b, pairs, strict=True) if pair], axis=0, dtype=np.float32),
        )
    return Adapter(merged)


@merge_method(
    "product",
    title="Weighted sum of the updates",
    source="https://arxiv.org/abs/2212.04089",
    aliases=("linear_product", "task_arithmetic"),
)
def linear_product(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None) -> Adapter:
    """Merge the updates exactly: dW' = sum lambda_i B_i A_i, held as concatenated factors of rank sum r_i.

    This is task arithmetic (Ilharco et al., 2023) on the updates; with strengths of sum 1 it is mergekit's `linear`, as
    the adapters of one backbone differ from each other in their updates alone.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.

    Raises:
        CaloraError: The adapters differ in shapes.
    """
    weights = checked(adapters, strengths, 1.0)
    return Adapter({module: weighted_sum(weighted(module, adapters, weights)) for module in modules(adapters)})


def weighted_sum(pairs: Sequence[tuple[float, Factors]]) -> Factors:
    """The sum of the updates, each times its weight: factors of rank sum r_i."""
    return Factors(
        np.concatenate([factors.a for _, factors in pairs], axis=0),
        np.concatenate([np.float32(weight) * factors.b for weight, factors in pairs], axis=1),
    )
