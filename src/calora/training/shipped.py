"""How far what is shipped (bfloat16 on disk) lies from what was trained (float32)."""

import torch

from calora.backbone import Backbone
from calora.training.data import EncodedExamples, collate

_EXAMPLES, _ROWS = 8, 64


def completion_log_probabilities(backbone: Backbone, data: EncodedExamples, autocast: bool = False) -> torch.Tensor:
    """Log-probabilities over the vocabulary at the completions' positions of the first examples.

    Args:
        backbone: With whatever acts on it now.
        data: Encoded examples.
        autocast: Whether learnt matrices in float32 are multiplied in bfloat16.

    Returns:
        [positions, vocabulary], in float32.
    """
    batch = collate(int(backbone.tokenizer.pad_token_id), [data[index] for index in range(min(_EXAMPLES, len(data)))])
    ids, mask, labels = (batch[name].to(backbone.model.device) for name in ("input_ids", "attention_mask", "labels"))
    model = backbone.model
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
        hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        logits: torch.Tensor = model.get_output_embeddings()(hidden[:, :-1][labels[:, 1:] != -100])
    return logits.float().log_softmax(dim=-1)


def divergence(trained: torch.Tensor, shipped: torch.Tensor) -> float:
    """Mean over positions of KL(trained || shipped), in nats; both [positions, vocabulary] log-probabilities."""
    parts = [
        (one.exp() * (one - other)).sum(dim=-1)
        for one, other in zip(trained.split(_ROWS), shipped.split(_ROWS), strict=True)
    ]
    return float(torch.cat(parts).mean())
