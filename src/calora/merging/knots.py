"""KnOTS: merge updates entry by entry in the basis that one SVD of all of them gives."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from calora.adapter import Adapter
from calora.merging.dare import Seed, dare
from calora.merging.dense import DenseUpdate
from calora.merging.entrywise import Density, Over
from calora.merging.registry import merge_method
from calora.merging.ties import Scope, Sign, ties

InBasis = Annotated[Literal["ties", "dare"], Field(description="the merge that is done in the basis")]


def in_basis(
    over: Over,
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None,
    rule: InBasis,
    density: float | tuple[float, ...],
    sign: Sign,
    scope: Scope,
    seed: int,
) -> Adapter | DenseUpdate:
    """TIES or DARE over the matrices of a basis; `sign` and `scope` are of TIES, `seed` is of DARE."""
    if rule == "dare":
        return dare(adapters, strengths, density=density, seed=seed, over=over)
    return ties(adapters, strengths, density=density, sign=sign, scope=scope, over=over)


@merge_method("knots", title="KnOTS", source="https://arxiv.org/abs/2410.19735")
def knots(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    rule: InBasis = "ties",
    density: Density = 1.0,
    sign: Sign = "total",
    scope: Scope = "adapter",
    seed: Seed = 0,
) -> Adapter | DenseUpdate:
    """Merge by TIES or DARE in the space of KnOTS (Stoica et al., 2025).

    [dW_1, ..., dW_N] = U S [V_1, ..., V_N]^T module by module; the S V_i^T are merged, and U leads back. The work's
    code trims all modules at once (`scope="adapter"`), keeps every entry unless told otherwise, leaves alpha / r out
    (it is folded in here) and scales the merge by one number, for which there are the strengths here.

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
    return in_basis("knots", adapters, strengths, rule, density, sign, scope, seed)
