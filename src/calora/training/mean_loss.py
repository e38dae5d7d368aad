"""The mean loss of a backbone with an adapter over examples, without training."""

import torch

from calora.attach import Attachable, attached
from calora.backbone import Backbone
from calora.training.data import EncodedExamples, collate
from calora.training.loss import check_head, completion_loss


def mean_loss(backbone: Backbone, adapter: Attachable | None, data: EncodedExamples, batch_size: int = 16) -> float:
    """Mean cross-entropy over the completions' tokens, in nats.

    Args:
        backbone: The model.
        adapter: Beside its weights.
        data: Encoded examples.
        batch_size: Examples at once; like lengths are put together.

    Raises:
        CaloraError: The backbone's head is more than a matrix product.
    """
    check_head(backbone)
    order = sorted(range(len(data)), key=lambda index: len(data.examples[index].text))
    total = count = 0.0
    with attached(backbone, adapter), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = collate(
                int(backbone.tokenizer.pad_token_id), [data[index] for index in order[start : start + batch_size]]
            )
            batch = {name: tensor.to(backbone.model.device) for name, tensor in batch.items()}
            tokens = float((batch["labels"] != -100).sum())
            total += tokens * float(completion_loss(backbone.model, **batch))
            count += tokens
    return total / count
