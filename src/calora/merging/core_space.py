"""Core-space merging: merge updates entry by entry as small matrices in shared bases of both sides."""

from collections.abc import Sequence

from calora.adapter import Adapter
from calora.merging.dare import Seed
from calora.merging.dense import DenseUpdate
from calora.merging.entrywise import Density
from calora.merging.knots import InBasis, in_basis
from calora.merging.registry import merge_method
from calora.merging.ties import Scope, Sign


@merge_method("core", title="Core-space merge", source="https://arxiv.org/abs/2509.17786", aliases=("core_space",))
def core_space(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    rule: InBasis = "ties",
    density: Density = 0.2,
    sign: Sign = "total",
    scope: Scope = "module",
    seed: Seed = 0,
) -> Adapter | DenseUpdate:
    """Merge by TIES or DARE in core space (Panariello et al., 2025).

    Module by module, with U and V orthonormal bases of all updates' columns and rows, M_i = U^T dW_i V are merged, and
    U M' V^T is the merge. Nothing is lost on the way, and ranks may differ. Which entries are large depends on the
    bases; they are singular vectors of the updates here, those of the factors in the work (`core_space` in `spaces`).

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part.
        rule: `ties` or `dare`.
        density: The fraction of entries kept.
        sign: Of `ties`, as there.
        scope: Of `ties`, as there.
        seed: Of `dare`'s draw.

    Returns:
        An adapter of rank at most sum r_i.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """
    return in_basis("core", adapters, strengths, rule, density, sign, scope, seed)
