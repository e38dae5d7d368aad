"""Linear merges: the paper's mean of the factors, and the exact weighted sum of the updates."""

from collections.abc import Sequence

import numpy as np

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError


def linear_factors(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None) -> Adapter:
    """Merge the factors separately: A' = sum w_i A_i, B' = sum w_i B_i (Bohdal et al., 2025, the initial merge).

    Update i is left at w_i squared of its strength, and cross terms w_i w_j B_i A_j come with it.

    Args:
        adapters: Adapters of one rank.
        strengths: w_i; 1/N each (the mean) if None.

    Raises:
        CaloraError: The adapters differ in rank or in shapes.
    """
    weights = _checked(adapters, strengths, 1 / max(1, len(adapters)))
    merged = {}
    for module in _modules(adapters):
        pairs = _weighted(module, adapters, weights)
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


def linear_product(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None) -> Adapter:
    """Merge the updates exactly: dW' = sum lambda_i B_i A_i, held as concatenated factors of rank sum r_i.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.

    Raises:
        CaloraError: The adapters differ in shapes.
    """
    weights = _checked(adapters, strengths, 1.0)
    merged = {}
    for module in _modules(adapters):
        pairs = _weighted(module, adapters, weights)
        merged[module] = Factors(
            np.concatenate([factors.a for _, factors in pairs], axis=0),
            np.concatenate([np.float32(w) * factors.b for w, factors in pairs], axis=1),
        )
    return Adapter(merged)


def _modules(adapters: Sequence[Adapter]) -> list[str]:
    return list(dict.fromkeys(module for adapter in adapters for module in adapter.modules))


def _weighted(module: str, adapters: Sequence[Adapter], weights: Sequence[float]) -> list[tuple[float, Factors]]:
    """The factors of those adapters that have the module, each with its weight."""
    both = zip(weights, adapters, strict=True)
    return [(weight, adapter.modules[module]) for weight, adapter in both if module in adapter.modules]


def _checked(adapters: Sequence[Adapter], strengths: Sequence[float] | None, default: float) -> list[float]:
    if not adapters:
        raise CaloraError("nothing to merge", "give at least one adapter")
    weights = [default] * len(adapters) if strengths is None else list(strengths)
    if len(weights) != len(adapters):
        raise CaloraError(f"{len(weights)} strengths for {len(adapters)} adapters", "give one strength an adapter")
    if not np.isfinite(weights).all():
        raise CaloraError(f"strengths {weights} are not all finite", "give ordinary numbers")
    shapes: dict[str, tuple[int, int]] = {}
    for index, adapter in enumerate(adapters):
        name = adapter.card.name if adapter.card else f"adapter {index + 1}"
        for module, factors in adapter.modules.items():
            if shapes.setdefault(module, factors.shape) != factors.shape:
                raise CaloraError(
                    f"{name}: {module} is {factors.shape}, the adapters before it have {shapes[module]}",
                    "merge adapters of one backbone",
                )
    return weights
