"""Train a single-task adapter: peft's LoRA on every linear module, the same first A in every adapter."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch

from calora.adapter import Adapter, AdapterCard, Factors
from calora.attach import attached
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.tasks import Composition
from calora.training.data import EncodedExamples, ExamplesOf
from calora.training.learner import Learner
from calora.training.loop import Judge, train
from calora.training.settings import TrainingSettings
from calora.training.shipped import completion_log_probabilities, divergence

RANK, ALPHA, DROPOUT = 32, 16, 0.05
A_SEED = 0


def train_adapter(
    backbone: Backbone,
    composition: Composition,
    train_examples: ExamplesOf,
    validation_examples: ExamplesOf,
    settings: TrainingSettings,
    work: Path,
    *,
    rank: int = RANK,
    alpha: int = ALPHA,
    start: Adapter | None = None,
    judge: Judge | None = None,
) -> Adapter:
    """Train a LoRA on one task, or on a whole composition (a joint expert).

    Args:
        backbone: Its weights stay as they are, to the bit.
        composition: Gives the prompt.
        train_examples: Epoch to examples.
        validation_examples: Epoch to examples; only epoch 0 is asked for.
        settings: Learning rate, epochs and the like; the paper's rate is 5e-5.
        work: Folder for checkpoints.
        rank: r of the paper, 32.
        alpha: The paper's 16: the update is alpha / r times B A.
        start: Of this rank, to begin with its update; a fresh LoRA (B is zero) if None.
        judge: Chooses the epoch; validation loss if None.
    """
    prompt = backbone.prompt(composition)
    validation = EncodedExamples(backbone, prompt, validation_examples)
    with injected(backbone, rank, alpha, start) as learner:
        summary = train(
            learner,
            EncodedExamples(backbone, prompt, train_examples),
            validation,
            settings,
            work,
            f"adapter {composition}",
            judge,
        )
        trained = completion_log_probabilities(backbone, validation, learner.autocast)
    values = {name: value.cpu().numpy().astype(np.float32) for name, value in learner.values().items()}
    scale = np.float32(alpha / rank)
    factors = {name: Factors(values[f"{name}.A"], scale * values[f"{name}.B"]) for name in backbone.targets}
    with attached(backbone, Adapter({name: _as_stored(pair) for name, pair in factors.items()})):
        summary["shipped_kl"] = divergence(trained, completion_log_probabilities(backbone, validation))
    adapter = Adapter(factors)
    card = AdapterCard(
        name=str(composition),
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        prompt=prompt,
        training=summary,
        added=adapter.parameters if len(composition.tasks) > 1 else 0,
    )
    return adapter.with_card(card)


def _as_stored(factors: Factors) -> Factors:
    """The values that a file in bfloat16 gives back."""
    a, b = (half.astype(ml_dtypes.bfloat16).astype(np.float32) for half in (factors.a, factors.b))
    return Factors(a, b)


@contextmanager
def injected(
    backbone: Backbone, rank: int = RANK, alpha: int = ALPHA, start: Adapter | None = None
) -> Iterator[Learner]:
    """Wrap every target in peft's LoRA while the block lasts; the learnt matrices are kept in float32.

    Args:
        backbone: Its own modules are put back at the end.
        rank: r.
        alpha: The update is alpha / r times B A.
        start: The update to begin with.

    Raises:
        CaloraError: The start does not fit the backbone, or is of another rank in some module.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.helpers import disable_input_dtype_casting

    model: Any = backbone.model
    targets = list(backbone.targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=DROPOUT, target_modules=targets, bias="none")
    with torch.random.fork_rng():
        torch.manual_seed(A_SEED)
        inject_adapter_in_model(config, model)
    try:
        layers: dict[str, Any] = {name: model.get_submodule(name) for name in targets}
        parameters: dict[str, torch.nn.Parameter] = {}
        for name, layer in layers.items():
            for half, linear in (("A", layer.lora_A["default"]), ("B", layer.lora_B["default"])):
                linear.weight.data = linear.weight.data.float()
                parameters[f"{name}.{half}"] = linear.weight
        if start is not None:
            _begin_with(backbone, start, parameters, rank, alpha)
        scale = f"{alpha / rank} times B A"
        learner = Learner(backbone, parameters, [scale], autocast=model.dtype == torch.bfloat16)
        _follow_mode(learner, layers)
        with disable_input_dtype_casting(model):
            yield learner
    finally:
        _remove(model, targets)


def _begin_with(
    backbone: Backbone, start: Adapter, parameters: dict[str, torch.nn.Parameter], rank: int, alpha: int
) -> None:
    backbone.check_adapter(start)
    for name in backbone.targets:
        factors = start.modules.get(name)
        if factors is None or factors.rank != rank:
            raise CaloraError(
                f"the start has rank {factors.rank if factors else 0} in {name}, the LoRA to train has {rank}",
                "begin with an adapter of the same rank in every module",
            )
        parameters[f"{name}.A"].data.copy_(torch.from_numpy(factors.a))
        parameters[f"{name}.B"].data.copy_(torch.from_numpy(factors.b * np.float32(rank / alpha)))


def _follow_mode(learner: Learner, layers: dict[str, Any]) -> None:
    """Let LoRA's dropout follow the learner's training mode; the backbone itself stays in evaluation mode."""
    plain = learner.train

    def set_mode(mode: bool = True) -> Learner:
        for layer in layers.values():
            layer.lora_dropout.train(mode)
        plain(mode)
        return learner

    learner.train = set_mode  # type: ignore[method-assign]
    set_mode(False)


def _remove(model: Any, targets: list[str]) -> None:
    """Put the backbone's own linear modules back where peft wrapped them."""
    for name in targets:
        parent, _, child = name.rpartition(".")
        holder = model.get_submodule(parent)
        layer = getattr(holder, child)
        setattr(holder, child, getattr(layer, "base_layer", layer))
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(False)
