"""What is known to go wrong in other tools, by the numbers of their issues: right here, or refused by name.

PEFT's own behaviour is asserted beside ours where the installed version still has it: this file tells when it changes.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from calora.adapter import Adapter, read_adapter, write_adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.merging import DenseUpdate, linear_product, merge, merge_methods
from tests.conftest import adapter_logits, assert_near, peft_logits, random_adapter
from tests.merging.helpers import SHAPES, UP, Q, assert_same, dense, peft_weighted, several

ALL = list(merge_methods())
ON_UPDATES = [name for name in ALL if name != "factors"]


def in_peft(backbone: Backbone, folder: Path, **config: Any) -> Any:
    """A PEFT model with one trained-looking adapter of some configuration, saved to a folder."""
    import torch
    from peft import LoraConfig, get_peft_model

    given = LoraConfig(**({"r": 4, "lora_alpha": 2, "target_modules": ["q_proj", "up_proj"]} | config))
    model: Any = get_peft_model(copy.deepcopy(backbone.model), given)
    torch.manual_seed(int(config.get("r", 4)))
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data = 0.3 * torch.randn_like(value)
    model.save_pretrained(str(folder))
    return model


def peft_update(model: Any, module: str, adapter: str = "default") -> Any:
    """What PEFT adds to a weight."""
    return model.base_model.model.get_submodule(module).get_delta_weight(adapter).detach().numpy()


def test_1_scales_are_applied_once_in_an_svd(llama: Backbone, tmp_path: Path) -> None:
    """peft#3111: before 0.21 the scale went in squared."""
    model = in_peft(llama, tmp_path / "a", lora_alpha=12)
    merged = merge([read_adapter(tmp_path / "a")], "svd", preset="peft")
    for module, update in dense(merged).items():
        np.testing.assert_allclose(update, peft_update(model, module), atol=1e-5)


def test_2_what_dare_keeps_is_scaled_up() -> None:
    """peft#3152, lorax#685: the division by the density was lost."""
    (adapter,) = several(0, 1)
    kept = merge([adapter], "dare", density=0.5).modules[Q]
    whole = dense(adapter)[Q]
    np.testing.assert_allclose(kept[kept != 0], 2 * whole[kept != 0], rtol=1e-5)


@pytest.mark.parametrize("name", ["product", "svd"])
def test_3_rslora_is_merged_at_its_strength(llama: Backbone, tmp_path: Path, name: str) -> None:
    """peft#3473: PEFT 0.21 still gives a merged adapter that is sqrt(r) too strong."""
    model = in_peft(llama, tmp_path / "a", use_rslora=True, r=8, lora_alpha=8)
    model.add_weighted_adapter(["default"], [1.0], "merged", combination_type="svd")
    merged = merge([read_adapter(tmp_path / "a")], name)
    for module, update in dense(merged).items():
        right = peft_update(model, module)
        np.testing.assert_allclose(update, right, atol=1e-5)
        np.testing.assert_allclose(peft_update(model, module, "merged"), 8**0.5 * right, atol=1e-4)  # the fault
    write_adapter(merged, tmp_path / "out", "float32")  # type: ignore[arg-type]
    assert_near(peft_logits(llama, tmp_path / "out"), peft_logits(llama, tmp_path / "a"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT's own, on what it makes here
@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "lora_only"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "embed_tokens"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]}, "trainable_token"),
        ({"layer_replication": [[0, 2], [0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"init_lora_weights": "pissa_niter_2"}, "init_lora_weights = 'pissa_niter_2'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights = 'olora'"),
    ],
)
def test_4_9_14_what_is_more_than_b_and_a_is_refused_by_name(
    llama: Backbone, tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    """peft#3761, #1615, #2018: PEFT leaves DoRA's and bias parts out without a word."""
    in_peft(llama, tmp_path / "a", **config)
    with pytest.raises(CaloraError, match=named):
        read_adapter(tmp_path / "a")


def test_5_patterns_of_ranks_merge_and_load_again(llama: Backbone, tmp_path: Path) -> None:
    """peft#3737, #2512: a result that could not be loaded, or a crash."""
    patterns = {"rank_pattern": {"up_proj": 2}, "alpha_pattern": {"q_proj": 6}}
    first = in_peft(llama, tmp_path / "a", **patterns)
    second = in_peft(llama, tmp_path / "b", r=8, lora_alpha=8)
    adapters = [read_adapter(tmp_path / name) for name in "ab"]
    merged = linear_product(adapters, (0.5, 2.0))
    for module, update in dense(merged).items():
        expected = 0.5 * peft_update(first, module) + 2.0 * peft_update(second, module)
        np.testing.assert_allclose(update, expected, atol=1e-5)
    write_adapter(merged, tmp_path / "out", "float32")
    assert_near(peft_logits(llama, tmp_path / "out"), adapter_logits(llama, merged))


@pytest.mark.parametrize("density", [0, None])
def test_6_no_density_is_no_nan(density: Any) -> None:
    """peft#3486: nan without an error; None gave a bare TypeError."""
    with pytest.raises(CaloraError, match="the dare merge: density"):
        merge(several(0, 2), "dare_linear", preset="peft", density=density)


def test_7_cross_terms_stand_only_where_they_are_asked_for(llama: Backbone) -> None:
    """peft#3004, #1155: `linear` is not the sum of the updates."""
    adapters = [random_adapter(llama, seed) for seed in (1, 2)]
    exact = {m: sum(dense(adapter)[m] for adapter in adapters) for m in llama.targets}
    far = dense(peft_weighted(llama, adapters, (1.0, 1.0), "linear"))
    near = dense(merge(adapters, "product"))
    for module, update in exact.items():
        np.testing.assert_allclose(near[module], update, atol=1e-5)
        assert np.linalg.norm(far[module] - update) > 0.5 * np.linalg.norm(update)


@pytest.mark.parametrize("name", ["product", "cat", "svd", "ties", "dare", "magnitude_prune", "karcher", "tsv_m"])
def test_7_a_negative_strength_subtracts(name: str) -> None:
    """peft#2796, #2811, #2918: the sign was lost, or stood on both factors."""
    (adapter,) = several(0, 1)
    parameters = {"density": 1.0} if "density" in merge_methods()[name].defaults else {}
    negative = merge([adapter], name, (-1.0,), **parameters)
    assert_same(negative, DenseUpdate({module: -update for module, update in dense(adapter).items()}), 1e-4)


@pytest.mark.parametrize("name", [name for name in ON_UPDATES if name != "slerp"])
def test_8_ranks_and_modules_may_differ(name: str) -> None:
    """peft#1045, openweights#57: refused, though nothing stands against it."""
    adapters = [
        random_adapter(SHAPES, 0, 1, "task0"),
        random_adapter({Q: SHAPES[Q]}, 1, 4, "task1"),
        random_adapter({UP: SHAPES[UP]}, 2, 3, "task2"),
    ]
    none = {module: pair.scaled(0.0) for module, pair in random_adapter(SHAPES).modules.items()}
    whole = [
        Adapter({module: one.modules.get(module, none[module]).padded(4) for module in SHAPES}, one.card)
        for one in adapters
    ]
    assert_same(merge(adapters, name, (1.0, -0.5, 0.75)), merge(whole, name, (1.0, -0.5, 0.75)), 1e-4)


def test_8_where_ranks_may_not_differ_the_module_is_named() -> None:
    with pytest.raises(CaloraError, match=r"layers.0.q_proj has ranks \[1, 3\]"):
        merge([random_adapter(SHAPES, 0, 1), random_adapter(SHAPES, 1, 3)], "factors")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_11_half_precision_is_merged_in_float32(llama: Backbone, tmp_path: Path, dtype: str) -> None:
    """peft#1052, mergekit#304: SVD of half-precision tensors failed, or lost digits."""
    adapters = []
    for seed in (1, 2):
        write_adapter(random_adapter(llama, seed), tmp_path / str(seed), dtype)
        adapters.append(read_adapter(tmp_path / str(seed)))
    assert all(pair.a.dtype == np.float32 for pair in adapters[0].modules.values())
    assert_same(merge(adapters, "svd", rank=6), merge(adapters, "product"), 1e-5)


def test_15_adapters_alone_are_enough(tmp_path: Path) -> None:
    """mergekit#470, #86: LoRA in, LoRA out, no base model at all."""
    for adapter in several(0, 2):
        write_adapter(adapter, tmp_path / str(adapter.card and adapter.card.name))
    merged = merge([read_adapter(folder) for folder in sorted(tmp_path.iterdir())], "ties", rank=4)
    assert isinstance(merged, Adapter)


@pytest.mark.parametrize("name", ALL)
def test_16_17_every_merge_is_shipped_with_one_rank_and_no_pattern(llama: Backbone, tmp_path: Path, name: str) -> None:
    """vllm#9280, llama.cpp's converter: a rank or an alpha of a module's own is read wrong, or not at all."""
    import json

    adapters = [random_adapter(llama, seed, name=f"task{seed}") for seed in (1, 2)]
    merged = merge(adapters, name, energy=0.9)
    write_adapter(merged, tmp_path / "out", "float32")  # type: ignore[arg-type]
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"]
    assert not config["use_rslora"]
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert isinstance(config["target_modules"], list)
    assert_near(peft_logits(llama, tmp_path / "out"), adapter_logits(llama, merged))  # type: ignore[arg-type]


@pytest.mark.parametrize("over", ["product", "core", "knots", "factors"])
def test_dare_is_the_same_on_any_number_of_threads(over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {f"layers.{layer}.q_proj": (40, 30) for layer in range(6)}
    adapters = [random_adapter(shapes, seed, name=f"task{seed}") for seed in (0, 1)]
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setattr("calora.merging.inputs._THREADS", threads)
        with threadpool_limits(threads, user_api="blas"):
            found.append(dense(merge(adapters, "dare", seed=3, over=over)))
    for other in found[1:]:
        assert all(np.array_equal(other[module], update) for module, update in found[0].items())


@pytest.mark.parametrize("cards", [True, False])
@pytest.mark.parametrize("name", ["dare", "dare_ties"])
def test_dare_does_not_see_the_order_of_adapters_nor_of_modules(name: str, cards: bool) -> None:
    first, second = several(0, 2)
    if not cards:
        first, second = Adapter(first.modules), Adapter(second.modules)
    turned = [Adapter(dict(reversed(one.modules.items())), one.card) for one in (second, first)]
    found, expected = merge(turned, name, (0.5, 1.0), seed=3), merge([first, second], name, (1.0, 0.5), seed=3)
    assert_same(found, expected)


def test_adapters_of_two_backbones_are_told_apart() -> None:
    with pytest.raises(CaloraError, match=r"layers.0.q_proj is \(7, 5\)") as caught:
        merge([random_adapter(SHAPES), random_adapter({Q: (7, 5)})])
    assert caught.value.hint == "merge adapters of one backbone"


def test_adapters_of_other_weights_are_merged_with_a_warning() -> None:
    first, second = several(0, 2)
    assert second.card
    other = second.with_card(second.card.model_copy(update={"backbone": "other", "backbone_sha256": "f" * 64}))
    with pytest.warns(UserWarning, match=r"different weights: task0 on .* and task1 on other \(ffffffff\)"):
        merge([first, other])
