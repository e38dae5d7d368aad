"""The weighted sum of the updates, cut to a rank."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from calora.adapter import Adapter
from calora.merging.dense import truncated
from calora.merging.linear import linear_product
from calora.merging.registry import merge_method

Rank = Annotated[
    Annotated[int, Field(ge=1)] | None, Field(description="at least 1; the largest parent's rank if left out")
]


@merge_method("svd", title="SVD", source="https://huggingface.co/docs/peft/developer_guides/model_merging")
def svd(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None, *, rank: Rank = None) -> Adapter:
    """Cut the weighted sum of the updates to a rank: its nearest matrices of that rank (Eckart and Young, 1936).

    From bases of the concatenated factors and an SVD of [sum r_i, sum r_i]: the singular values are exact, no update is
    formed. PEFT's `svd` and its default.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.
        rank: What it is cut to.

    Raises:
        CaloraError: The adapters differ in shapes, or the rank is below 1.
    """
    whole = linear_product(adapters, strengths)
    return truncated(whole, rank=rank or max(adapter.rank for adapter in adapters))[0]
