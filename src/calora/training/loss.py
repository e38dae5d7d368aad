"""The loss of a language model at the completion's positions alone, without keeping its logits."""

from typing import Any

import torch

_ROWS = 128


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), _ROWS):
            rows = slice(start, start + _ROWS)
            logits = (hidden[rows] @ weight.t()).float()
            highest = logits.amax(dim=1, keepdim=True)
            own = logits.gather(1, targets[rows].unsqueeze(1)) - highest
            weights = logits.sub_(highest).exp_()
            sums = weights.sum(dim=1, keepdim=True)
            total += (sums.log() - own).sum()
            if gradient is not None:
                expected = (weights.to(weight.dtype) @ weight) / sums
                gradient[rows] = (expected - weight[targets[rows]]).to(hidden.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient / len(hidden))
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None


def head_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of a frozen language-model head.

    The gradient of each block of rows is formed as soon as its logits are, so that no more than 128 rows of
    logits ever exist: with a vocabulary of 262 thousand they are the largest thing in a training step.

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
