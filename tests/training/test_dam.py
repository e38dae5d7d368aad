from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.merging import cat
from calora.merging.learnt import Learnt, LearntCard
from calora.tasks import Composition
from tests.conftest import assert_near, logits, random_adapter
from tests.training.helpers import SETTINGS, examples_of


def random_columns(backbone: Backbone, count: int) -> Learnt:
    random = np.random.default_rng(0)
    tensors = {
        f"{module}.{index}": random.uniform(0.2, 0.8, inside).astype(np.float32)
        for module, (_, inside) in backbone.targets.items()
        for index in range(count)
    }
    return Learnt(LearntCard(method="DAM", composition="summary+es", training={}), tensors)


def test_columns_of_one_over_n_are_the_mean_of_the_updates(llama: Backbone) -> None:
    from calora.training.dam import dam_update

    adapters = [random_adapter(llama, seed) for seed in (1, 2, 3)]
    drawn = random_columns(llama, 3)
    columns = replace(drawn, tensors={name: np.full_like(value, 1 / 3) for name, value in drawn.tensors.items()})
    found, expected = dam_update(llama, adapters, columns), cat(adapters)
    for module, factors in expected.modules.items():
        np.testing.assert_allclose(found.modules[module], factors.update(), rtol=1e-4, atol=1e-5)


def test_the_update_is_the_merge_of_whole_weights(llama: Backbone) -> None:
    from calora.training.dam import dam_update

    adapters, columns = [random_adapter(llama, seed) for seed in (1, 2)], random_columns(llama, 2)
    found = dam_update(llama, adapters, columns)
    for module in llama.targets:
        linear: Any = llama.model.get_submodule(module)
        weight = linear.weight.detach().numpy()
        whole = [(weight + adapter.modules[module].update()) for adapter in adapters]
        merged = sum(one * columns.tensors[f"{module}.{index}"] for index, one in enumerate(whole))
        np.testing.assert_allclose(weight + found.modules[module], merged, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("packing", ["4bit", "8bit", "packed"])
def test_packed_weights_are_refused_by_the_backbones_name(llama: Backbone, tmp_path: Path, packing: str) -> None:
    from calora.training.dam import dam_update, train_dam

    adapters, packed = [random_adapter(llama, seed) for seed in (1, 2)], replace(llama, name=f"tiny:{packing}")
    with pytest.raises(CaloraError, match=f"weights of tiny:{packing} themselves, and they are packed") as error:
        train_dam(packed, adapters, [], [], SETTINGS, tmp_path / "work", "summary+es")
    assert error.value.hint == "merge on tiny, or with another method"
    with pytest.raises(CaloraError, match="packed"):
        dam_update(packed, adapters, random_columns(llama, 2))


def test_adapters_that_do_not_go_together_are_refused(llama: Backbone, tmp_path: Path) -> None:
    from calora.training.dam import train_dam

    first, second = (random_adapter(llama, seed) for seed in (1, 2))
    some = Adapter(dict(list(second.modules.items())[:2]))
    for adapters, wrong in (([first], "DAM of one adapter"), ([first, some], "has other modules than")):
        with pytest.raises(CaloraError, match=wrong):
            train_dam(llama, adapters, [], [], SETTINGS, tmp_path / "work", "summary+es")


@pytest.mark.slow
def test_training_moves_the_columns_and_brings_the_merge_nearer_to_its_adapters(
    llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from calora.attach import attached
    from calora.training.dam import dam_update, train_dam
    from calora.training.data import EncodedExamples
    from calora.training.shipped import completion_log_probabilities, divergence

    adapters = [random_adapter(llama, seed) for seed in (1, 2)]
    parts = [
        EncodedExamples(llama, llama.prompt(Composition.parse(task)), examples_of(rows[:12]))
        for task in ("summary", "es")
    ]
    before = logits(llama.model, llama.tokenizer)
    columns = train_dam(llama, adapters, parts, parts, SETTINGS, tmp_path / "work", "summary+es")
    assert columns.parameters == 2 * sum(inside for _, inside in llama.targets.values())
    assert len(columns.card.training["validation"]) == 3
    assert_near(logits(llama.model, llama.tokenizer), before)

    def distance(update: Any) -> float:
        total = 0.0
        for adapter, part in zip(adapters, parts, strict=True):
            with attached(llama, adapter):
                taught = completion_log_probabilities(llama, part)
            with attached(llama, update):
                total += divergence(taught, completion_log_probabilities(llama, part))
        return total

    assert distance(dam_update(llama, adapters, columns)) < 0.95 * distance(cat(adapters))
