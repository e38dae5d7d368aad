"""PEFT and mergekit, live, against our methods in their presets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.merging import DenseUpdate, find_merge_method, merge
from calora.merging.conventions import CONVENTIONS
from tests.conftest import random_adapter
from tests.merging.helpers import Q, dense, peft_weighted, several

WEIGHTS = (1.0, 0.5, -0.75)


def near(found: Adapter | DenseUpdate, expected: Adapter | DenseUpdate, tolerance: float = 1e-5) -> None:
    """Each module's updates agree, relative to the largest entry."""
    assert set(found.modules) == set(expected.modules)
    for module, update in dense(expected).items():
        assert np.abs(dense(found)[module] - update).max() <= tolerance * np.abs(update).max(), module


def three(backbone: Backbone, seed: int = 1, rank: int = 3) -> list[Adapter]:
    return [random_adapter(backbone, seed + index, rank, name=f"task{index}") for index in range(3)]


# PEFT


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("name", ["linear", "cat", "svd"])
def test_peft_adds_up_as_we_do(llama: Backbone, name: str, rank: int) -> None:
    adapters = three(llama, rank=rank)
    near(merge(adapters, name, WEIGHTS, preset="peft"), peft_weighted(llama, adapters, WEIGHTS, name))


@pytest.mark.parametrize("density", [0.2, 0.6])
@pytest.mark.parametrize("name", ["ties", "ties_svd", "magnitude_prune", "magnitude_prune_svd"])
def test_peft_prunes_as_we_do(llama: Backbone, name: str, density: float) -> None:
    adapters = three(llama)
    expected = peft_weighted(llama, adapters, WEIGHTS, name, density=density)
    near(merge(adapters, name, WEIGHTS, preset="peft", density=density), expected)


@pytest.mark.parametrize("name", ["ties", "ties_svd"])
def test_peft_counts_signs_as_we_do(llama: Backbone, name: str) -> None:
    adapters = three(llama)
    expected = peft_weighted(llama, adapters, WEIGHTS, name, density=0.5, majority_sign_method="frequency")
    near(merge(adapters, name, WEIGHTS, preset="peft", density=0.5, sign="frequency"), expected)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"])
def test_pefts_dare_is_ours_where_nothing_is_dropped(llama: Backbone, name: str) -> None:
    adapters = three(llama)
    with pytest.warns(UserWarning, match="density"):
        expected = peft_weighted(llama, adapters, WEIGHTS, name, density=1.0)
    near(merge(adapters, name, WEIGHTS, preset="peft", density=1.0), expected)


@pytest.mark.parametrize(("name", "draws"), [("dare_linear_svd", 60), ("dare_linear", 60)])
def test_pefts_dare_has_our_mean_and_our_spread(llama: Backbone, name: str, draws: int) -> None:
    """Stochastic: over many draws, the mean and the mean square of the distance from it agree."""
    import torch

    whole, first = three(llama), "model.layers.0.self_attn.k_proj"  # [16, 32], so that rank 16 is whole
    adapters = [Adapter({Q: adapter.modules[first]}) for adapter in whole]
    ours, theirs = [], []
    for seed in range(draws):
        torch.manual_seed(seed)
        theirs.append(dense(peft_weighted(llama, whole, WEIGHTS, name, density=0.5, **_full(name)))[first])
        ours.append(dense(merge(adapters, name, WEIGHTS, preset="peft", density=0.5, seed=seed, **_rank(name)))[Q])
    size = np.abs(np.mean(theirs, axis=0)).mean()
    error = np.std(theirs, axis=0) / np.sqrt(draws)
    assert np.mean(np.abs(np.mean(ours, axis=0) - np.mean(theirs, axis=0)) < 4 * error + 1e-3 * size) > 0.97
    assert np.mean(np.var(ours, axis=0)) == pytest.approx(np.mean(np.var(theirs, axis=0)), rel=0.15)


def _full(name: str) -> dict[str, Any]:
    return {"svd_rank": 16} if name.endswith("_svd") else {}


def _rank(name: str) -> dict[str, Any]:
    return {"rank": 16} if name.endswith("_svd") else {}


def test_half_each_in_peft_is_twice_the_papers_mean(llama: Backbone) -> None:
    adapters = three(llama)[:2]
    twice = Adapter({module: pair.scaled(2.0) for module, pair in merge(adapters, "factors").modules.items()})  # type: ignore[union-attr]
    near(merge(adapters, "linear", (0.5, 0.5), preset="peft"), twice)


# mergekit


def by_mergekit(name: str, adapters: Sequence[Adapter], with_base: bool = True, **parameters: Any) -> DenseUpdate:
    """Mergekit's method on the updates: they are what its models differ by from a base of zeros."""
    import torch
    from mergekit.merge_methods.api import merge_tensors

    updates = [dense(adapter) for adapter in adapters]
    merged = {}
    for module in updates[0]:
        tensors = [torch.from_numpy(update[module]) for update in updates]
        if with_base:
            tensors = [torch.zeros_like(tensors[0]), *tensors]
        found = merge_tensors(tensors, name, parameters=parameters, base_index=0 if with_base else None)
        merged[module] = found.numpy()
    return DenseUpdate(merged)


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("task_arithmetic", {}),
    ("task_arithmetic", {"normalize": True}),
    ("ties", {"density": 0.3}),
    ("ties", {"density": (0.3, 0.5, 0.9)}),
    ("ties", {"density": 0.5, "normalize": False}),
    ("dare_linear", {}),
    ("dare_linear", {"normalize": True}),
    ("dare_ties", {}),
    ("dare_ties", {"normalize": True, "rescale": False}),
    ("breadcrumbs", {"density": 0.6, "gamma": 0.1}),
    ("breadcrumbs", {"density": 0.98, "gamma": 0.1}),
    ("breadcrumbs_ties", {"density": 0.6, "gamma": 0.05}),
]


@pytest.mark.parametrize("weights", [(1.0, 0.5, 0.75), WEIGHTS])
@pytest.mark.parametrize(("name", "parameters"), SETTINGS)
def test_mergekit_does_as_its_preset(
    llama: Backbone, name: str, parameters: dict[str, Any], weights: tuple[float, ...]
) -> None:
    adapters = three(llama)
    expected = by_mergekit(name, adapters, weight=weights, **parameters)
    near(merge(adapters, name, weights, preset="mergekit", **parameters), expected)


def test_mergekits_linear_slerp_and_karcher_are_ours_on_the_updates(llama: Backbone) -> None:
    adapters = three(llama)
    weights = (1.0, 0.5, 0.75)
    near(merge(adapters, "linear", weights, preset="mergekit"), by_mergekit("linear", adapters, False, weight=weights))
    for t in (0.0, 0.3, 0.5, 1.0):
        pair = adapters[:2]
        import torch
        from mergekit.merge_methods.api import merge_tensors

        expected = {
            module: merge_tensors(
                [torch.from_numpy(dense(adapter)[module]) for adapter in pair],
                "slerp",
                parameters={"t": t},
                base_index=0,
            ).numpy()
            for module in pair[0].modules
        }
        near(merge(pair, "slerp", preset="mergekit", t=t), DenseUpdate(expected))
    near(merge(adapters, "karcher", preset="mergekit"), by_mergekit("karcher", adapters, False), 1e-4)  # its own 1e-5


def test_mergekits_dare_has_our_mean_and_our_spread() -> None:
    import torch

    adapters, weights, draws = several(0, 2), (1.0, -0.5), 400
    ours, theirs = [], []
    for seed in range(draws):
        torch.manual_seed(seed)
        theirs.append(dense(by_mergekit("dare_linear", adapters, weight=weights, density=0.5))[Q])
        ours.append(dense(merge(adapters, "dare_linear", weights, preset="mergekit", density=0.5, seed=seed))[Q])
    error = np.std(theirs, axis=0) / np.sqrt(draws / 2)
    assert np.all(np.abs(np.mean(ours, axis=0) - np.mean(theirs, axis=0)) < 4.5 * error)
    assert np.mean(np.var(ours, axis=0)) == pytest.approx(np.mean(np.var(theirs, axis=0)), rel=0.1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("linear", {}),
        ("task_arithmetic", {}),
        ("ties", {"density": 0.4}),
        ("breadcrumbs", {"density": 0.7, "gamma": 0.05}),
        ("breadcrumbs_ties", {"density": 0.7}),
        ("dare_linear", {}),
    ],
)
def test_mergekit_on_whole_models_moves_them_by_our_merge(
    llama: Backbone, tmp_path: Path, name: str, parameters: dict[str, Any]
) -> None:
    """Its own command's way: folders of whole models in, a whole model out."""
    import copy

    import torch
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from transformers import AutoModelForCausalLM

    adapters, weights = three(llama)[:2], (0.5, 0.75)
    for place, adapter in enumerate(adapters):
        model: Any = copy.deepcopy(llama.model)
        for module, pair in adapter.modules.items():
            model.get_submodule(module).weight.data += torch.from_numpy(pair.update())
        model.save_pretrained(tmp_path / str(place))
    llama.model.save_pretrained(tmp_path / "base")
    models = [
        {"model": str(tmp_path / str(place)), "parameters": {"weight": weight}} for place, weight in enumerate(weights)
    ]
    config: dict[str, Any] = {"merge_method": name, "models": models, "parameters": parameters, "dtype": "float32"}
    if name != "linear":
        config["base_model"] = str(tmp_path / "base")
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    run_merge(MergeConfiguration.model_validate(config), str(tmp_path / "out"), options)
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    moved = {
        module: (merged.get_submodule(module).weight - llama.model.get_submodule(module).weight).detach().numpy()
        for module in llama.targets
    }
    near(DenseUpdate(moved), merge(adapters, name, weights, preset="mergekit", **parameters), 1e-5)


# Neither


def test_what_no_tool_has_is_refused() -> None:
    adapters = several(0, 2)
    with pytest.raises(CaloraError, match="no preset is called 'lorax'"):
        merge(adapters, "ties", preset="lorax")
    with pytest.raises(CaloraError, match="'knots' is no method of peft that calora has") as caught:
        merge(adapters, "knots", preset="peft")
    assert "ties_svd" in str(caught.value.hint)
    with pytest.raises(CaloraError, match="rescale = 'l2'"):
        merge(adapters, "dare_linear", preset="mergekit", rescale="l2")
    with pytest.raises(CaloraError, match="the dare merge has no parameter epsilon"):
        merge(adapters, "dare_linear", preset="mergekit", epsilon=0.1)


def test_every_convention_is_of_a_method_with_such_parameters() -> None:
    for preset in CONVENTIONS.values():
        for convention in preset.values():
            assert set(convention.parameters) <= set(find_merge_method(convention.method).defaults)
