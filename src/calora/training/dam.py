"""Differentiable Adaptive Merging: a factor for every input column of every adapter, learnt to imitate the adapters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from calora.adapter import Adapter
from calora.attach import Update, hooked, low_rank
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.merging import DenseUpdate
from calora.merging.learnt import Learnt, pairs_by_module
from calora.packing import split_packing
from calora.training.data import EncodedExamples, MixedExamples
from calora.training.learner import PartedLearner
from calora.training.loop import train
from calora.training.merges import learnt_by
from calora.training.settings import TrainingSettings

TEMPERATURE, SIMILARITY = 2.0, 0.01
_ROWS = 64


class _DamLearner(PartedLearner):
    """Part i of the data is what adapter i was trained on; there the merge should say what the adapter says."""

    imitating = True

    def part_loss(self, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """T^2 KL(adapter || merge) at temperature T, and the mean cosine between the adapters' columns."""
        wanted = labels[:, 1:] != -100
        with torch.no_grad(), self._alone():
            taught = self._hidden(ids, mask)[wanted]
        learnt = self._hidden(ids, mask)[wanted]
        head = self.backbone.model.get_output_embeddings().weight
        kl = torch.zeros((), device=ids.device)
        for teacher, student in zip(taught.split(_ROWS), learnt.split(_ROWS), strict=True):
            target = ((teacher @ head.t()).float() / TEMPERATURE).log_softmax(dim=-1)
            found = ((student @ head.t()).float() / TEMPERATURE).log_softmax(dim=-1)
            kl = kl + nn.functional.kl_div(found, target, reduction="sum", log_target=True)
        return TEMPERATURE**2 * kl / len(learnt) + SIMILARITY * self._similarity()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.imitating = False
        try:
            yield
        finally:
            self.imitating = True

    def _hidden(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        decoder = self.backbone.model.get_decoder()
        hidden: torch.Tensor = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden[:, :-1]

    def _similarity(self) -> torch.Tensor:
        """Mean cosine between two adapters' columns, over pairs and modules."""
        by_module: dict[str, list[torch.Tensor]] = {}
        for name, value in self.learnt.items():
            by_module.setdefault(name.rpartition("|")[0], []).append(value)
        cosines = [
            nn.functional.cosine_similarity(one, other, dim=0)
            for columns in by_module.values()
            for one, other in combinations(columns, 2)
        ]
        return torch.stack(cosines).mean()


def train_dam(
    backbone: Backbone,
    adapters: Sequence[Adapter],
    train_parts: Sequence[EncodedExamples],
    validation_parts: Sequence[EncodedExamples],
    settings: TrainingSettings,
    work: Path,
    composition: str,
) -> Learnt:
    """Learn DAM's columns (Gauthier-Caron et al., 2024, https://arxiv.org/abs/2410.08371), each 1/N to begin with.

    The work merges whole models, W = sum_i W_i diag(c_i) with W_i = W0 + B_i A_i. In low-rank form that is

        W x = W0 (sum_i c_i * x) + sum_i B_i A_i (c_i * x),

    without a copy of any weight. The loss is the divergence from each adapter on its own task's data, at temperature 2,
    with 0.01 times the mean cosine between columns, as in the work's code.

    Args:
        backbone: Its weights stay as they are, to the bit.
        adapters: What to merge, of the same modules.
        train_parts: Each adapter's own training data, encoded under its own prompt.
        validation_parts: Likewise; the epoch with the lowest loss is kept.
        settings: Learning rate (the work's is 1e-3), epochs and the like.
        work: Folder for checkpoints.
        composition: For the card.

    Returns:
        `MODULE.i` to c_i [in], for `dam_update`.

    Raises:
        CaloraError: There is one adapter alone, they differ in modules, or the backbone's weights are packed.
    """
    _check_plain(backbone)
    pairs_of = pairs_by_module(adapters)
    modules = [module for module in backbone.targets if module in pairs_of]
    if len(adapters) < 2:
        raise CaloraError("DAM of one adapter", "give two or more: it learns how they go together")
    device, dtype = backbone.model.device, backbone.model.dtype
    count = len(adapters)
    parameters = {
        f"{module}.{index}": nn.Parameter(torch.full((backbone.targets[module][1],), 1 / count, device=device))
        for module in modules
        for index in range(count)
    }
    learner = _DamLearner(backbone, parameters, adapters)

    def update(module: str) -> Update:
        weight = _weight(backbone, module)
        pairs = [[torch.from_numpy(half).to(device, dtype) for half in (pair.a, pair.b)] for pair in pairs_of[module]]
        columns: list[torch.Tensor] = [parameters[f"{module}.{index}"] for index in range(count)]

        def merged(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
            if not learner.imitating:
                return low_rank(x, out, *pairs[learner.current])
            rest = (torch.stack(columns).sum(dim=0) - 1).to(dtype)
            out = out + nn.functional.linear(x * rest, weight)
            for column, (a, b) in zip(columns, pairs, strict=True):
                out = low_rank(x * column.to(dtype), out, a, b)
            return out

        return merged

    with hooked(backbone, {module: update(module) for module in modules}):
        summary = train(
            learner, MixedExamples(train_parts), MixedExamples(validation_parts), settings, work, "DAM merge"
        )
    return learnt_by(learner, "DAM", composition, summary)


def dam_update(backbone: Backbone, adapters: Sequence[Adapter], columns: Learnt) -> DenseUpdate:
    """The merge that DAM's columns make, as one update: W0 diag(sum_i c_i - 1) + sum_i B_i A_i diag(c_i).

    Raises:
        CaloraError: The backbone's weights are packed.
    """
    _check_plain(backbone)
    modules = {}
    for module in adapters[0].modules:
        own = [columns.tensors[f"{module}.{index}"] for index in range(len(adapters))]
        change = _weight(backbone, module).float().cpu().numpy() * (np.sum(own, axis=0) - 1)
        for column, adapter in zip(own, adapters, strict=True):
            change += adapter.modules[module].update() * column
        modules[module] = change.astype(np.float32)
    return DenseUpdate(modules)


def _check_plain(backbone: Backbone) -> None:
    plain, packing = split_packing(backbone.name)
    if packing is not None:
        raise CaloraError(
            f"DAM multiplies with the weights of {backbone.name} themselves, and they are packed",
            f"merge on {plain}, or with another method",
        )


def _weight(backbone: Backbone, module: str) -> torch.Tensor:
    """The weight [out, in] of a linear module."""
    linear: Any = backbone.model.get_submodule(module)
    weight: torch.Tensor = linear.weight.detach()
    return weight
