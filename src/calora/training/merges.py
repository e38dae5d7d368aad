"""Learn a merge's numbers: a strength for every module, or a projection for every kind of module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from calora.adapter import Adapter, module_kind
from calora.attach import Update, hooked, low_rank
from calora.backbone import Backbone
from calora.merging.learnt import Learnt, LearntCard, pairs_by_module
from calora.storage import Array
from calora.training.data import EncodedExamples
from calora.training.learner import Learner
from calora.training.loop import Judge, train
from calora.training.settings import TrainingSettings

Objective = Literal["loss", "entropy"]
_ROWS = 64


class _EntropyLearner(Learner):
    """Reads no label: how sure the merge is of its next token, at every position of the answers."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Mean entropy of the next token over the answers' positions, in nats, arguments all [batch, length]."""
        model = self.backbone.model
        if self.training:
            self.tokens += int(attention_mask.sum())
        hidden = model.get_decoder()(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        rows = hidden.last_hidden_state[:, :-1][labels[:, 1:] != -100]
        return {"loss": self.part(mean_entropy(rows, model.get_output_embeddings().weight), len(rows))}


def mean_entropy(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean entropy of a language-model head's distributions, in nats; no more than 64 rows of logits exist at a time.

    Args:
        hidden: [n, hidden].
        weight: [vocabulary, hidden].
    """

    def summed(rows: torch.Tensor) -> torch.Tensor:
        logits = (rows @ weight.t()).float().log_softmax(dim=-1)
        return -(logits.exp() * logits).sum()

    parts: list[torch.Tensor] = [checkpoint(summed, rows, use_reentrant=False) for rows in hidden.split(_ROWS)]
    return torch.stack(parts).sum() / len(hidden)


def learn_strengths(
    backbone: Backbone,
    adapters: Sequence[Adapter],
    train_data: EncodedExamples,
    validation_data: EncodedExamples,
    settings: TrainingSettings,
    work: Path,
    composition: str,
    *,
    objective: Objective = "loss",
    start: float | None = None,
    judge: Judge | None = None,
) -> Learnt:
    """Learn how strong each adapter is in each module.

    With `entropy` this is AdaMerging, "layer-wise" (Yang et al., 2024, https://arxiv.org/abs/2310.02575): its
    coefficients are one a tensor and a task, and it reads no label.

    Args:
        backbone: Its weights stay as they are, to the bit.
        adapters: What to merge, of the same modules.
        train_data: Examples whose answers are scored (`loss`), or say where to measure how sure the merge is
            (`entropy`); there they are to be what a model said itself.
        validation_data: Likewise.
        settings: Learning rate (AdaMerging's is 1e-3), epochs and the like.
        work: Folder for checkpoints.
        composition: For the card.
        objective: What is made small.
        start: Every strength to begin with; 1/N if None, AdaMerging's is 0.3.
        judge: Called with the values of an epoch in place; the epoch with the highest figure is kept. That with the
            lowest of what is made small if None.

    Returns:
        Module to strengths [N], for `calora.merging.learnt.per_module`.

    Raises:
        CaloraError: The adapters differ in modules or shapes.
    """
    modules = pairs_by_module(adapters)
    first = 1 / len(adapters) if start is None else start
    device = backbone.model.device
    parameters = {module: nn.Parameter(torch.full((len(adapters),), first, device=device)) for module in modules}
    learner = (_EntropyLearner if objective == "entropy" else Learner)(backbone, parameters, adapters)

    def update(module: str) -> Update:
        a, b, ranks = _joined(backbone, adapters, module)
        return lambda x, out: low_rank(x, out, a, b * parameters[module].repeat_interleave(ranks).to(b.dtype))

    with hooked(backbone, {module: update(module) for module in parameters}):
        summary = train(learner, train_data, validation_data, settings, work, f"{objective} of strengths", judge)
    return learnt_by(learner, f"strengths by {objective}", composition, summary)


def learn_projection(
    backbone: Backbone,
    adapters: Sequence[Adapter],
    train_data: EncodedExamples,
    validation_data: EncodedExamples,
    settings: TrainingSettings,
    work: Path,
    composition: str,
    *,
    start: float | None = None,
    judge: Judge | None = None,
) -> Learnt:
    """Learn a projection over the joined adapters, one for each kind of module: dW' = [B_1 ... B_N] C [A_1; ...; A_N].

    Our reading of the projection merge (Bohdal et al., 2025, https://arxiv.org/abs/2510.13848), whose public text gives
    "a learnable projection layer on top of the combined adapters" of 0.4 % more parameters, and neither its shape, its
    place, its start nor its rate. docs/merging.md says what was chosen and why.

    Args:
        backbone: Its weights stay as they are, to the bit.
        adapters: What to merge, of the same modules, each of one rank.
        train_data: Composed examples.
        validation_data: Likewise.
        settings: Learning rate, epochs and the like.
        work: Folder for checkpoints.
        composition: For the card.
        start: On C's diagonal to begin with; 1/N if None, the mean of the updates.
        judge: Called with the values of an epoch in place; the epoch with the highest figure is kept. That with the
            lowest loss if None.

    Returns:
        Kind of module to C [R, R], for `calora.merging.learnt.projected`.

    Raises:
        CaloraError: The adapters differ in modules or shapes.
    """
    modules, device = list(pairs_by_module(adapters)), backbone.model.device
    ranks = {module_kind(module): sum(adapter.modules[module].rank for adapter in adapters) for module in modules}
    first = 1 / len(adapters) if start is None else start
    parameters = {kind: nn.Parameter(first * torch.eye(rank, device=device)) for kind, rank in ranks.items()}
    learner = Learner(backbone, parameters, adapters)

    def update(module: str) -> Update:
        a, b, _ = _joined(backbone, adapters, module)
        return lambda x, out: low_rank(x, out, a, b @ parameters[module_kind(module)].to(b.dtype))

    with hooked(backbone, {module: update(module) for module in modules}):
        summary = train(learner, train_data, validation_data, settings, work, "projection merge", judge)
    return learnt_by(learner, "projection", composition, summary)


def _joined(
    backbone: Backbone, adapters: Sequence[Adapter], module: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A [R, in] and B [out, R] of all adapters, in the backbone's precision, and their ranks."""
    device, dtype = backbone.model.device, backbone.model.dtype
    pairs = [adapter.modules[module] for adapter in adapters]

    def placed(values: list[Array], axis: int) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(values, axis=axis)).to(device, dtype)

    ranks = torch.tensor([pair.rank for pair in pairs], device=device)
    return placed([pair.a for pair in pairs], 0), placed([pair.b for pair in pairs], 1), ranks


def learnt_by(learner: Learner, method: str, composition: str, summary: dict[str, Any]) -> Learnt:
    """What a learner's parameters are now."""
    tensors = {name: value.cpu().numpy().astype(np.float32, copy=True) for name, value in learner.values().items()}
    return Learnt(LearntCard(method=method, composition=composition, training=summary), tensors)
