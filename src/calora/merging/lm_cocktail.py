"""LM-Cocktail: strengths from each adapter's loss on a few examples of the target."""

from collections.abc import Sequence

import numpy as np

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.merging.linear import linear_product


def lm_cocktail(
    adapters: Sequence[Adapter], losses: Sequence[float], temperature: float = 5.0
) -> tuple[Adapter, tuple[float, ...]]:
    """Merge with w = softmax(-loss / T) (LM-Cocktail; Xiao et al., 2024, https://arxiv.org/abs/2311.13534).

    The work merges whole models with weights of sum 1. As all models share the backbone, that is the weighted sum of
    the updates, dW' = sum w_i B_i A_i.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        losses: Each adapter's mean loss on a few examples of the target.
        temperature: T; 5 in the work's code.

    Returns:
        The merge and its w, of sum 1.

    Raises:
        CaloraError: The losses are not one finite number an adapter, the temperature is not above 0, or the adapters
            differ in shapes.
    """
    if len(losses) != len(adapters):
        raise CaloraError(f"{len(losses)} losses for {len(adapters)} adapters", "give one loss an adapter")
    if not np.isfinite(losses).all():
        raise CaloraError(f"losses {list(losses)} are not all finite", "look for the adapter that gives the other one")
    if not temperature > 0:
        raise CaloraError(
            f"temperature {temperature} is not above 0", "the smaller it is, the more the best one counts"
        )
    scores = -np.asarray(losses, np.float64) / temperature
    shares = np.exp(scores - scores.max(initial=-np.inf))
    weights = tuple(float(share) for share in shares / shares.sum())
    return linear_product(adapters, weights), weights
