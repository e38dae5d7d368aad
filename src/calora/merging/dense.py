"""Updates of full rank: what merges on the entries of the updates give."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calora.adapter import Adapter, AdapterCard, Factors
from calora.errors import CaloraError
from calora.linalg import Tall
from calora.merging.sparse import blocks
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


def truncated(
    merged: Adapter | DenseUpdate, *, rank: int | None = None, energy: float | None = None
) -> tuple[Adapter, dict[str, float]]:
    """The nearest adapter of a rank (Eckart and Young, 1936: the first terms of the SVD), and how near it is.

    Args:
        merged: Updates of a higher rank; those that have no more are taken as they are.
        rank: At least 1.
        energy: Instead of a rank, the least share of each update's squared norm that is to be left, above 0 and at
            most 1; modules then differ in rank.

    Returns:
        The adapter, each singular value's root on both factors, and for each module the relative error
        |dW - B A| / |dW| in the Frobenius norm, 0 for a zero update.

    Raises:
        CaloraError: Not one of the two is given, or it is out of its range.
    """
    factors, errors = {}, {}
    for module, part in merged.modules.items():
        factors[module], errors[module] = truncated_part(part, rank=rank, energy=energy)
    return Adapter(factors, merged.card), errors


def truncated_part(
    part: Factors | Array, *, rank: int | None = None, energy: float | None = None
) -> tuple[Factors, float]:
    """One module's update, cut as `truncated` does, and its relative error."""
    if (rank is None) == (energy is None):
        raise CaloraError("give a rank or an energy to truncate to, and not both")
    if rank is not None and rank < 1:
        raise CaloraError(f"rank {rank} is below 1", "give the rank of the adapter to make")
    if energy is not None and not 0 < energy <= 1:
        raise CaloraError(f"energy {energy} is not above 0 and at most 1", "it is a share of the squared norm")
    if isinstance(part, Factors) and rank is not None and part.rank <= rank:
        return part, 0.0
    u, s, vt = part.svd(rank) if isinstance(part, Factors) else _leading(part, rank)
    squares = np.square(s, dtype=np.float64)
    if energy is not None:
        rank = int(np.searchsorted(np.cumsum(squares), energy * squares.sum() * (1 - 1e-7))) + 1
    roots = np.sqrt(s[:rank])
    cut = Factors(roots[:, None] * vt[:rank], u[:, :rank] * roots)
    if isinstance(part, Factors):
        whole, lost = squares.sum(), squares[rank:].sum()
    else:  # of a large matrix only the first terms are known
        whole = _squares(part)
        lost = sum(_squares(rows - left @ cut.a) for rows, left in zip(blocks(part), blocks(cut.b), strict=True))
    return cut, float(np.sqrt(lost / whole)) if whole else 0.0


def _leading(update: Array, rank: int | None) -> tuple[Array, Array, Array]:
    """The first terms of an SVD: of a large matrix by subspace iteration, with fixed random numbers.

    Halko, Martinsson and Tropp (2011), algorithm 4.4: with 8 more directions than asked for and 4 steps its error is
    the least possible to some parts in a thousand where singular values fall slowly, to rounding where they fall.
    """
    width = min(update.shape) if rank is None else rank + 8
    if 4 * width > min(update.shape):
        return np.linalg.svd(update, full_matrices=False)
    drawn = np.random.default_rng(0).standard_normal((update.shape[1], width), np.float32)
    left = Tall(update @ drawn).basis()
    for _ in range(4):
        left = Tall(update @ Tall(update.T @ left).basis()).basis()
    right = Tall((left.T @ update).T)
    u, s, vt = np.linalg.svd(right.coefficients.T, full_matrices=False)
    return left @ u.astype(np.float32), s.astype(np.float32), right.basis(vt.T).T


def _squares(values: Array) -> float:
    """The sum of the squares; in float64, since millions of entries add up."""
    return float(sum(np.square(rows, dtype=np.float64).sum() for rows in blocks(values)))
