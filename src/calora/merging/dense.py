"""Updates of full rank: what merges on the entries of the updates give."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calora.adapter import Adapter, AdapterCard, Factors
from calora.errors import CaloraError
from calora.storage import Array


@dataclass(frozen=True)
class DenseUpdate:
    """A whole matrix for each target module of a backbone; for comparisons, since it is as large as the weights.

    Args:
        modules: Module name in the backbone to its update [out, in], float32.
        card: Name, prompt and backbone, as an adapter has them.
    """

    modules: Mapping[str, Array]
    card: AdapterCard | None = None

    def __post_init__(self) -> None:
        name = self.card.name if self.card else "dense update"
        if not self.modules:
            raise CaloraError(f"{name} has no modules", "expected an update for at least one linear module")
        for module, update in self.modules.items():
            if update.ndim != 2:
                raise CaloraError(f"{name}: {module} has the shape {update.shape}", "expected a matrix [out, in]")
            if not np.isfinite(update).all():
                raise CaloraError(f"{name}: {module} holds NaN or infinite values", "check the adapters it is made of")

    def norm(self) -> float:
        """Frobenius norm of all updates together."""
        return float(np.sqrt(sum(_squares(update) for update in self.modules.values())))

    def truncated(self, rank: int) -> tuple[Adapter, dict[str, float]]:
        """The nearest adapter of a rank (Eckart and Young, 1936: the first terms of the SVD), and how near it is.

        Args:
            rank: At least 1; a module that has fewer rows or columns gets its full rank.

        Returns:
            The adapter, each singular value's root on both factors, and for each module the relative error
            |dW - B A| / |dW| in the Frobenius norm, 0 for a zero update.

        Raises:
            CaloraError: The rank is below 1.
        """
        if rank < 1:
            raise CaloraError(f"rank {rank} is below 1", "give the rank of the adapter to make")
        factors, errors = {}, {}
        for module, update in self.modules.items():
            u, s, vt = np.linalg.svd(update, full_matrices=False)
            roots = np.sqrt(s[:rank])
            factors[module] = Factors(roots[:, None] * vt[:rank], u[:, :rank] * roots)
            whole = _squares(s)
            errors[module] = float(np.sqrt(_squares(s[rank:]) / whole)) if whole else 0.0
        return Adapter(factors, self.card), errors


def _squares(values: Array) -> float:
    """The sum of the squares; in float64, since millions of entries add up."""
    return float(np.sum(np.square(values, dtype=np.float64)))
