"""LoraHub: strengths of a factors merge, searched without gradients on a few examples."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from calora.adapter import Adapter
from calora.errors import CaloraError, install_hint
from calora.merging.linear import linear_factors

_BOX = 1.5
_PENALTY = 0.05


def lorahub(
    adapters: Sequence[Adapter], loss: Callable[[Adapter], float], budget: int = 40, seed: int = 0
) -> tuple[Adapter, tuple[float, ...]]:
    """Search the strengths of a factors merge (LoraHub; Huang et al., 2024, https://arxiv.org/abs/2307.13269).

    Minimises loss(A', B') + 0.05 mean |w_i| with A' = sum w_i A_i, B' = sum w_i B_i and w_i from -1.5 to 1.5, by
    Nevergrad's NGOpt, which starts from w = 0; for a few adapters and this budget it picks COBYLA, which draws nothing
    at random. As the same w_i stands on both factors, w and -w make the same updates.

    Args:
        adapters: Adapters of one rank.
        loss: The mean loss of the few examples under a merge; finite.
        budget: How often it is asked; 40 is the work's own.
        seed: Of the search.

    Returns:
        The merge and its w.

    Raises:
        CaloraError: Nevergrad is not installed, the budget is below 1, or the adapters differ in rank or in shapes.
    """
    if budget < 1:
        raise CaloraError(f"budget {budget} is below 1", "it is the number of merges that are tried")
    linear_factors(adapters)  # refuses what does not fit before the search
    try:
        import nevergrad
    except ImportError as error:
        raise CaloraError("LoraHub needs nevergrad, which is not installed", install_hint("search")) from error

    def objective(weights: Any) -> float:
        return loss(linear_factors(adapters, weights.tolist())) + _PENALTY * float(np.mean(np.abs(weights)))

    place: Any = nevergrad.p.Array(init=np.zeros(len(adapters)), lower=-_BOX, upper=_BOX)
    place.random_state = np.random.RandomState(seed)
    with warnings.catch_warnings():
        # Nevergrad hands scipy a tolerance of 0, which scipy reports and replaces by its own.
        warnings.filterwarnings("ignore", "COBYLA: Invalid", UserWarning, r"scipy\.")
        found = nevergrad.optimizers.NGOpt(place, budget=budget).minimize(objective)
    weights = tuple(float(weight) for weight in found.value)
    return linear_factors(adapters, weights), weights
