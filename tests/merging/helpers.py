"""Small named adapters, their updates as matrices, another gauge for them, and what PEFT makes of them."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from calora.adapter import Adapter, Factors
from calora.backbone import Backbone
from calora.merging import DenseUpdate
from tests.conftest import random_adapter

Q, UP = "layers.0.q_proj", "layers.0.up_proj"
SHAPES = {Q: (6, 5), UP: (8, 5)}


def several(seed: int, count: int, rank: int = 2) -> list[Adapter]:
    return [random_adapter(SHAPES, seed + index, rank, name=f"task{seed + index}") for index in range(count)]


def dense(merged: Adapter | DenseUpdate) -> dict[str, Any]:
    """Each module's update as a matrix."""
    return {module: part.update() if isinstance(part, Factors) else part for module, part in merged.modules.items()}


def assert_same(found: Adapter | DenseUpdate, expected: Adapter | DenseUpdate, tolerance: float = 1e-5) -> None:
    """Equal modules and equal updates, whether factored or dense; float32 sums differ in their order."""
    assert set(found.modules) == set(expected.modules)
    for module, update in dense(expected).items():
        np.testing.assert_allclose(dense(found)[module], update, rtol=tolerance, atol=tolerance)


def in_another_gauge(adapter: Adapter, seed: int = 0) -> Adapter:
    """The same updates by other factors: (B R, R^-1 A)."""
    random = np.random.default_rng(seed)
    turned = {}
    for module, pair in adapter.modules.items():
        gauge = random.normal(size=(pair.rank, pair.rank)) + 4 * np.eye(pair.rank)
        turned[module] = Factors(
            (np.linalg.inv(gauge) @ pair.a).astype(np.float32), (pair.b @ gauge).astype(np.float32)
        )
    return Adapter(turned, adapter.card)


def peft_weighted(
    backbone: Backbone, adapters: Sequence[Adapter], weights: Sequence[float], method: str, **options: Any
) -> Adapter:
    """What PEFT's add_weighted_adapter makes of the adapters, its scale folded in."""
    import torch
    from peft import LoraConfig, get_peft_model

    names = [f"adapter{index}" for index in range(len(adapters))]
    rank = adapters[0].rank
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(backbone.targets))
    model: Any = get_peft_model(copy.deepcopy(backbone.model), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    for name, adapter in zip(names, adapters, strict=True):
        for module, pair in adapter.modules.items():
            layer = model.base_model.model.get_submodule(module)
            layer.lora_A[name].weight.data = torch.from_numpy(pair.a)
            layer.lora_B[name].weight.data = torch.from_numpy(pair.b) / 2  # alpha / r is 2
    model.add_weighted_adapter(names, list(weights), "merged", combination_type=method, **options)
    modules = {}
    for module in backbone.targets:
        layer = model.base_model.model.get_submodule(module)
        a, b = (half["merged"].weight.detach().numpy() for half in (layer.lora_A, layer.lora_B))
        modules[module] = Factors(a, layer.scaling["merged"] * b)
    return Adapter(modules)
