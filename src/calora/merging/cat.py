"""Concatenation: the mean of the updates, exactly."""

from collections.abc import Sequence

from calora.adapter import Adapter
from calora.merging.inputs import checked
from calora.merging.linear import linear_product
from calora.merging.registry import merge_method


@merge_method(
    "cat",
    title="Concatenation",
    source="https://huggingface.co/docs/peft/developer_guides/model_merging",
    aliases=("concatenation",),
)
def cat(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None) -> Adapter:
    """Concatenate the factors: A' = [A_1; ...; A_N], B' = [w_1 B_1, ..., w_N B_N], so that dW' = sum w_i B_i A_i.

    The same sum as `linear_product` and as PEFT's `cat`, whose weights have no default. The paper names
    concatenation among its baselines and gives no weights; they are 1/N here, as in its linear merge, which makes this
    the mean of the updates without the cross terms of the mean of the factors. The sum of the updates is `product`.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: w_i; 1/N each if None.

    Returns:
        An adapter of rank sum r_i.

    Raises:
        CaloraError: The adapters differ in shapes.
    """
    return linear_product(adapters, checked(adapters, strengths, 1 / max(1, len(adapters))))
