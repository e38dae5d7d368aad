"""The rank that a runtime asks for: zero ranks added, or the nearest adapter of a lower rank with its error."""

import numpy as np

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError


def fit_rank(adapter: Adapter, rank: int | None) -> tuple[Adapter, float]:
    """Bring every module to one rank.

    Args:
        adapter: Any ranks.
        rank: To bring it to; the adapter's largest if None.

    Returns:
        The adapter, and the relative error |dW - B A| / |dW| of all its updates together in the Frobenius norm: 0
        where nothing was cut, and else that of the nearest update of that rank (Eckart and Young, 1936).

    Raises:
        CaloraError: The rank is below 1.
    """
    rank = adapter.rank if rank is None else rank
    if rank < 1:
        raise CaloraError(f"rank {rank} is below 1", "give the rank that the runtime asks for")
    modules, lost, whole = {}, 0.0, 0.0
    for module, factors in adapter.modules.items():
        whole += factors.norm() ** 2
        if factors.rank > rank:
            u, s, vt = factors.svd()
            lost += float(np.sum(np.square(s[rank:], dtype=np.float64)))
            roots = np.sqrt(s[:rank])
            factors = Factors(roots[:, None] * vt[:rank], u[:, :rank] * roots)
        modules[module] = factors.padded(rank)
    return Adapter(modules, adapter.card), float(np.sqrt(lost / whole)) if whole else 0.0
