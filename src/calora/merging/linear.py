"""Linear merges: the paper's mean of the factors, and the exact weighted sum of the updates."""

from collections.abc import Sequence

import numpy as np

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging.inputs import checked, modules, weighted
from calora.merging.registry import merge_method


@merge_method(
    "factors",
    title="Linear merge of the factors",
    source="https://arxiv.org/abs/2507.16083",
    aliases=("linear", "linear_factors"),
)
def linear_factors(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None) -> Adapter:
    """Merge the factors separately: A' = sum w_i A_i, B' = sum w_i B_i (Bohdal et al., 2025, the initial merge).

    Update i is left at w_i squared of its strength, and cross terms w_i w_j B_i A_j come with it.

    Args:
        adapters: Adapters of one rank.
        strengths: w_i; 1/N each (the mean) if None.

    Raises:
        CaloraError: The adapters differ in rank or in shapes.
    """
    weights = checked(adapters, strengths, 1 / max(1, len(adapters)))
    merged = {}
    for module in modules(adapters):
        pairs = weighted(module, adapters, weights)
        ranks = sorted({factors.rank for _, factors in pairs})
        if len(ranks) > 1:
            raise CaloraError(
                f"a factors merge needs one rank, {module} has ranks {ranks}",
                "train the adapters with one rank, or merge with the product start",
            )
        merged[module] = Factors(
            np.sum([w * factors.a for w, factors in pairs], axis=0, dtype=np.float32),
            np.sum([w * factors.b for w, factors in pairs], axis=0, dtype=np.float32),
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

    This is task arithmetic (Ilharco et al., 2023) on the updates.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.

    Raises:
        CaloraError: The adapters differ in shapes.
    """
    weights = checked(adapters, strengths, 1.0)
    merged = {}
    for module in modules(adapters):
        pairs = weighted(module, adapters, weights)
        merged[module] = Factors(
            np.concatenate([factors.a for _, factors in pairs], axis=0),
            np.concatenate([np.float32(w) * factors.b for w, factors in pairs], axis=1),
        )
    return Adapter(merged)
