"""Lengths and angles of updates, from the Gram matrices of their factors: no update is formed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from calora.adapter import Adapter, Factors
from calora.merging.inputs import modules

Doubles = npt.NDArray[np.float64]


def inner(first: Factors, second: Factors) -> float:
    """<B_1 A_1, B_2 A_2> = sum of (B_1^T B_2) * (A_1 A_2^T), entry by entry, in float64."""
    a1, b1, a2, b2 = (half.astype(np.float64) for half in (first.a, first.b, second.a, second.b))
    return float(np.sum((b1.T @ b2) * (a1 @ a2.T)))


def gram(pairs: Sequence[Factors | None]) -> Doubles:
    """Inner products of some updates of one module.

    Args:
        pairs: N of them; None is a zero update.

    Returns:
        [N, N], float64, symmetric.
    """
    products = np.zeros((len(pairs), len(pairs)))
    for row, first in enumerate(pairs):
        for column, second in enumerate(pairs[: row + 1]):
            if first is not None and second is not None:
                products[row, column] = products[column, row] = inner(first, second)
    return products


def adapter_gram(adapters: Sequence[Adapter]) -> Doubles:
    """Inner products of whole adapters, each the sum over its modules: [N, N], float64."""
    every = [gram([adapter.modules.get(module) for adapter in adapters]) for module in modules(adapters)]
    total: Doubles = np.sum(every, axis=0)
    return total


def cosines(products: Doubles) -> Doubles:
    """Cosines from inner products [N, N]; 0 beside an update of length 0."""
    lengths = np.sqrt(np.maximum(0.0, np.diag(products)))
    both = np.outer(lengths, lengths)
    found: Doubles = np.divide(products, both, out=np.zeros_like(both), where=both > 0)
    return found
