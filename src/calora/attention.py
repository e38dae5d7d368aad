"""Attention of decoding, where several query heads read the same keys and values."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_NAME = "calora-grouped"


@contextmanager
def grouped_queries(model: Any) -> Iterator[None]:
    """Let a model that attends with plain matrix products do so without a copy of the keys for each query head.

    transformers repeats keys and values until there are as many as query heads, and torch copies the keys once more to
    transpose them. In decoding, a step has one query a text and copies all that was read before: that took two thirds
    of it on a CPU. The sums are the same ones, where torch's fused attention rounds elsewhere.

    Args:
        model: A causal language model; one with another attention, or as many keys as queries, is left as it is.
    """
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)
    plain = config._attn_implementation == "eager" and heads > (getattr(config, "num_key_value_heads", None) or heads)
    if not plain or _has_more_than_products(model):
        yield
        return
    _register()
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation("eager")


def grouped_attention(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> "tuple[torch.Tensor, None]":
    """Softmax(q k^T scaling + mask) v, without dropout, as transformers calls an attention.

    Args:
        module: Which attention asks; its `head_dim` gives a scaling that is not given.
        query: [batch, heads, queries, dimension].
        key: [batch, key heads, keys, dimension], the heads a multiple of the key heads.
        value: [batch, key heads, keys, dimension].
        attention_mask: Added to the scores: [batch, 1, queries, keys]; nothing if None.
        scaling: Of the scores.
        softcap: Scores become softcap tanh(scores / softcap).

    Returns:
        [batch, queries, heads, dimension], and no weights.
    """
    import torch

    batch, heads, queries, dimension = query.shape
    rows = query.reshape(batch, key.shape[1], -1, dimension)  # the heads that share keys one below the other
    scores = torch.matmul(rows, key.transpose(2, 3)).view(batch, heads, queries, -1)
    scores = scores * (module.head_dim**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    out = torch.matmul(weights.view(*rows.shape[:3], -1), value).view(batch, heads, queries, -1)
    return out.transpose(1, 2).contiguous(), None


def _has_more_than_products(model: Any) -> bool:
    """Whether its attention has what the plain one here has not: sinks, which are a parameter of each layer."""
    return any(name.endswith(".sinks") for name, _ in model.named_parameters())


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(_NAME, grouped_attention)
    AttentionMaskInterface.register(_NAME, eager_mask)
