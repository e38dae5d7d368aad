"""Train a calibration: the merge and the backbone frozen, a few shared parameters learnt."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from calora import __version__
from calora.adapter import Adapter, Factors
from calora.attach import Update, hooked, low_rank
from calora.backbone import Backbone
from calora.calibration import (
    Calibration,
    CalibrationCard,
    Unfolded,
    check_calibration,
    fresh_tensors,
    site_of,
)
from calora.training.data import EncodedExamples, ExamplesOf
from calora.training.learner import Learner
from calora.training.loop import Judge, train
from calora.training.settings import TrainingSettings
from calora.training.shipped import completion_log_probabilities, divergence


def train_calibration(
    backbone: Backbone,
    merged: Adapter,
    card: CalibrationCard,
    train_examples: ExamplesOf,
    validation_examples: ExamplesOf,
    settings: TrainingSettings,
    work: Path,
    *,
    start: Calibration | None = None,
    judge: Judge | None = None,
) -> Calibration:
    """Learn a calibration of a merge on composed examples.

    Args:
        backbone: Its weights stay as they are, to the bit.
        merged: The merge that the card describes.
        card: Kind, rank, sharing, composition and prompt.
        train_examples: Epoch to composed examples.
        validation_examples: Epoch to composed examples; only epoch 0 is asked for.
        settings: Learning rate, epochs and the like; the paper's rate is 5e-4.
        work: Folder for checkpoints.
        start: Of the same kind and shapes, to begin with its values; the identity on the merge if None.
        judge: Called with the values of an epoch in place; chooses the epoch. Validation loss if None.
    """
    assert card.prompt is not None
    backbone.check_adapter(merged)
    if start is not None:
        check_calibration(merged, Calibration(card, start.tensors))
    device = backbone.model.device
    parameters = {
        name: nn.Parameter(torch.tensor(value, device=device))  # a copy: the start is not to be changed
        for name, value in (fresh_tensors(card, merged, settings.seed) if start is None else start.tensors).items()
    }
    learner = Learner(backbone, parameters, [merged])
    validation = EncodedExamples(backbone, card.prompt, validation_examples)
    updates = calibrated_updates(backbone, merged, card, parameters)
    with hooked(backbone, updates):
        summary = train(
            learner,
            EncodedExamples(backbone, card.prompt, train_examples),
            validation,
            settings,
            work,
            f"calibration {card.composition} {card.kind}",
            judge,
        )
        trained = completion_log_probabilities(backbone, validation)
        tensors = {name: value.cpu().numpy().astype(np.float32, copy=True) for name, value in learner.values().items()}
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.copy_(parameter.bfloat16())
        summary["shipped_kl"] = divergence(trained, completion_log_probabilities(backbone, validation))
    return Calibration(card.model_copy(update={"training": summary, "calora_version": __version__}), tensors)


def calibrated_updates(
    backbone: Backbone, merged: Adapter, card: CalibrationCard, parameters: dict[str, nn.Parameter]
) -> dict[str, Update]:
    """The calibrated forward pass of each module.

    Column bias: y + p (1 . x). Row scale: (1 + p) * (B A x). Output bias: y + p. Output scale: (1 + p) * y.
    Low rank: y + P2 P1 x.
    """
    return {
        module: _update(backbone, factors, card, site_of(module, card), parameters)
        for module, factors in merged.modules.items()
    }


def frozen_updates(backbone: Backbone, unfolded: Unfolded) -> dict[str, Update]:
    """The forward pass of a calibrated merge that is kept in its two parts."""
    backbone.check_adapter(unfolded.merged)
    parameters = {
        name: nn.Parameter(torch.from_numpy(value).to(backbone.model.device), requires_grad=False)
        for name, value in unfolded.calibration.tensors.items()
    }
    return calibrated_updates(backbone, unfolded.merged, unfolded.calibration.card, parameters)


def _update(
    backbone: Backbone, factors: Factors, card: CalibrationCard, site: str | None, parameters: dict[str, nn.Parameter]
) -> Update:
    dtype, device = backbone.model.dtype, backbone.model.device
    a = torch.from_numpy(factors.a).to(device, dtype)
    wide = torch.from_numpy(factors.b).to(device)
    b = wide.to(dtype)
    ones = torch.ones(1, a.shape[1], device=device, dtype=dtype)

    def value(name: str) -> torch.Tensor:
        return parameters[f"{site}.{name}"].to(dtype)

    def column_bias(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        # One product, as a sum over x and an addition to `out` would each be another pass over memory.
        return low_rank(x, out, torch.cat([a, ones]), torch.cat([b, value("p").unsqueeze(1)], dim=1))

    def row_scale(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        # In float32, as bfloat16 has no number between 1 and 1.008: most of a small p would be rounded away.
        return low_rank(x, out, a, ((1 + parameters[f"{site}.p"]).unsqueeze(1) * wide).to(dtype))

    def output_bias(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return low_rank(x, out, a, b) + value("p")

    def output_scale(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        given = low_rank(x, out, a, b)
        return torch.addcmul(given, given, value("p"))

    def low_rank_kind(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return low_rank(x, out, torch.cat([a, value("p1")]), torch.cat([b, value("p2")], dim=1))

    if site is None:
        return lambda x, out: low_rank(x, out, a, b)
    return {
        "column-bias": column_bias,
        "row-scale": row_scale,
        "output-bias": output_bias,
        "output-scale": output_scale,
        "low-rank": low_rank_kind,
    }[card.kind]
