"""TIES: trim small entries, elect a sign for each place, take the mean of those that agree with it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from calora.adapter import Adapter
from calora.merging.dense import DenseUpdate
from calora.merging.inputs import checked, checked_density, modules, weighted
from calora.merging.registry import merge_method
from calora.storage import Array

Sign = Literal["total", "frequency"]


@merge_method("ties", title="TIES", source="https://arxiv.org/abs/2306.01708", aliases=("ties_svd",))
def ties(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: float = 0.2,
    sign: Sign = "total",
) -> DenseUpdate:
    """Merge by TIES (Yadav et al., 2023) over the updates dW_i = B_i A_i of each module.

    Trim each update to its largest entries, elect a sign for each place, then take the disjoint mean

        dW' = sum_{i agrees} lambda_i dW_i / |{i agrees}|,

    where i agrees if its trimmed entry has the elected sign. Election and count come before the strengths. One
    module is held at a time.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part, in the election neither.
        density: The fraction of entries kept of each update, module by module; 0.2 is the work's own.
        sign: Elected by the sum of the trimmed entries (`total`, the work's own) or by their number (`frequency`).
            A draw elects plus.

    Raises:
        CaloraError: The adapters differ in shapes, or the density is not above 0 and at most 1.
    """
    checked_density(density)
    weights = checked(adapters, strengths, 1.0)
    return DenseUpdate(
        {
            module: disjoint_mean(
                [(weight, trim(pair.update(), density)) for weight, pair in weighted(module, adapters, weights)], sign
            )
            for module in modules(adapters)
        }
    )


def trim(update: Array, density: float) -> Array:
    """Keep the largest entries by magnitude, so many as `density` says (rounded down); the others become 0.

    Args:
        update: [out, in].
        density: Above 0 and at most 1.
    """
    drop = update.size - int(density * update.size)
    if drop == update.size:
        return np.zeros_like(update)
    least = np.partition(np.abs(update), drop, axis=None)[drop]
    return np.where(np.abs(update) >= least, update, np.float32(0))


def disjoint_mean(updates: Sequence[tuple[float, Array]], sign: Sign) -> Array:
    """Elect a sign for each place and take the weighted mean of the entries that have it.

    Args:
        updates: Pairs of a strength and an update [out, in]; those of strength 0 take no part.
        sign: How to elect it, as in `ties`.

    Returns:
        [out, in]; 0 where no entry has the elected sign.
    """
    votes, total, count = (np.zeros_like(updates[0][1]) for _ in range(3))
    parties = [(weight, update) for weight, update in updates if weight]
    for _, update in parties:
        votes += np.sign(update) if sign == "frequency" else update
    for weight, update in parties:
        agrees = (update != 0) & ((update > 0) == (votes >= 0))
        total += np.float32(weight) * np.where(agrees, update, np.float32(0))
        count += agrees
    total /= np.maximum(count, 1)
    return total
