"""The loss of a language model at the completion's positions alone, without keeping its logits."""

from typing import Any

import torch

from calora.backbone import Backbone
from calora.errors import CaloraError

_BLOCK = 8192
# What makes logits more than a product with the head's weights: its names in transformers, and what does nothing.
_HEADS: dict[str, float | None] = {
    "final_logit_softcapping": None,
    "logits_soft_cap": None,
    "logit_scale": 1,
    "logits_scaling": 1,
    "lm_head_multiplier": 1,
    "output_multiplier": 1,
}


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows = len(hidden)
        own = torch.einsum("nh,nh->n", hidden.float(), weight[targets].float())
        highest = torch.full((rows, 1), -torch.inf, device=hidden.device)
        total = torch.zeros(rows, 1, device=hidden.device)
        expected = torch.zeros(hidden.shape, device=hidden.device) if ctx.needs_input_grad[0] else None
        for block in weight.split(_BLOCK):
            logits = (hidden @ block.t()).float()
            before, highest = highest, torch.maximum(highest, logits.amax(dim=1, keepdim=True))
            shrink = (before - highest).exp_()
            weights = logits.sub_(highest).exp_()
            total.mul_(shrink).add_(weights.sum(dim=1, keepdim=True))
            if expected is not None:
                expected.mul_(shrink).add_(weights.to(weight.dtype) @ block)
        if expected is not None:
            ctx.save_for_backward(((expected / total - weight[targets]) / rows).to(hidden.dtype))
        return ((total.log() + highest).squeeze(1) - own).mean()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None


def head_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of a frozen language-model head.

    The vocabulary is taken in blocks, with a running maximum, sum and gradient (as FlashAttention does over
    keys), so that a block's logits are used while they are in the cache and no others ever exist: with a
    vocabulary of 262 thousand they are the largest thing in a training step.

    Args:
        hidden: [n, hidden], the last hidden states at the positions that predict the completion.
        weight: [vocabulary, hidden], frozen: it gets no gradient.
        targets: [n], the completion's token ids.
    """
    loss: torch.Tensor = _HeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss


def completion_loss(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy over the positions whose label is not -100.

    Args:
        model: A causal language model of transformers, its head a frozen linear layer without bias.
        input_ids: [batch, length].
        attention_mask: [batch, length].
        labels: [batch, length], -100 outside the completion.
    """
    hidden = model.get_decoder()(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
    wanted = labels[:, 1:] != -100
    return head_loss(hidden[:, :-1][wanted], model.get_output_embeddings().weight, labels[:, 1:][wanted])


def check_head(backbone: Backbone) -> None:
    """Refuse a head whose logits are more than a matrix product: `head_loss` would be another model's loss.

    Raises:
        CaloraError: It has a soft cap, a scale or a bias.
    """
    config = backbone.model.config.get_text_config()
    odd = [key for key, plain in _HEADS.items() if getattr(config, key, plain) not in (plain, None)]
    head: Any = backbone.model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        odd.append("a bias in the language-model head")
    if odd:
        raise CaloraError(
            f"{backbone.name} has {', '.join(odd)}, which calora's loss does not compute",
            "take a backbone with a plain linear head, such as Llama, Qwen, StableLM or Gemma 3",
        )
