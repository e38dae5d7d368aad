from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calora.adapter import Adapter
from calora.attach import attached
from calora.backbone import Backbone
from calora.corpus import Example
from calora.errors import CaloraError
from calora.merging import cat
from calora.merging.learnt import per_module, projected
from calora.tasks import Composition, Prompt
from calora.training.data import EncodedExamples
from calora.training.mean_loss import mean_loss
from tests.conftest import assert_near, logits, random_adapter
from tests.training.helpers import SETTINGS, examples_of


def encoded(backbone: Backbone, rows: list[dict[str, Any]]) -> Any:
    from calora.training.data import EncodedExamples

    return EncodedExamples(backbone, backbone.prompt(Composition.parse("summary+es")), examples_of(rows[:10]))


def entropy_of(backbone: Backbone, adapter: Adapter, data: Any) -> float:
    """Mean entropy at the answers' positions, from whole logits."""
    from calora.training.data import collate

    batch = collate(0, [data[index] for index in range(len(data))])
    with attached(backbone, adapter), torch.inference_mode():
        found = backbone.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    rows = found[:, :-1][batch["labels"][:, 1:] != -100].float()
    return float(torch.distributions.Categorical(logits=rows).entropy().mean())


def test_mean_entropy_and_its_gradient_are_those_of_the_whole_logits() -> None:
    from calora.training.merges import mean_entropy

    torch.manual_seed(0)
    weight, hidden = torch.randn(50, 8), torch.randn(150, 8, requires_grad=True)
    found = mean_entropy(hidden, weight)
    (gradient,) = torch.autograd.grad(found, hidden)
    expected = torch.distributions.Categorical(logits=hidden @ weight.t()).entropy().mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, hidden)[0])


def test_adapters_of_other_modules_are_refused(llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    from calora.training.merges import learn_projection, learn_strengths

    first, second = (random_adapter(llama, seed) for seed in (1, 2))
    adapters, data = [first, Adapter(dict(list(second.modules.items())[:2]))], encoded(llama, rows)
    for learn in (learn_strengths, learn_projection):
        with pytest.raises(CaloraError, match="has other modules than"):
            learn(llama, adapters, data, data, SETTINGS, tmp_path / "work", "summary+es")


@pytest.mark.slow
def test_strengths_are_learnt_in_each_module_and_lower_the_loss(
    llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from calora.training.mean_loss import mean_loss
    from calora.training.merges import learn_strengths

    adapters, data = [random_adapter(llama, 1, rank=2), random_adapter(llama, 2, rank=3)], encoded(llama, rows)
    before = logits(llama.model, llama.tokenizer)
    learnt = learn_strengths(llama, adapters, data, data, SETTINGS, tmp_path / "work", "summary+es", start=0.8)
    assert_near(logits(llama.model, llama.tokenizer), before)
    assert learnt.parameters == 2 * len(llama.targets)
    assert len({value.tobytes() for value in learnt.tensors.values()}) > 1
    merged = per_module(adapters, learnt.tensors)
    loss = mean_loss(llama, merged, data)
    assert loss < mean_loss(llama, cat(adapters, [0.8, 0.8]), data)
    # What was trained is what is shipped.
    assert loss == pytest.approx(min(epoch["eval_loss"] for epoch in learnt.card.training["validation"]), rel=0.02)


@pytest.mark.slow
def test_entropy_needs_no_label_and_falls(llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    from calora.training.merges import learn_strengths

    adapters, data = [random_adapter(llama, seed) for seed in (1, 2)], encoded(llama, rows)
    learnt = learn_strengths(
        llama, adapters, data, data, SETTINGS, tmp_path / "work", "summary+es", objective="entropy", start=0.3
    )
    merged = per_module(adapters, learnt.tensors)
    found = entropy_of(llama, merged, data)
    assert found < entropy_of(llama, cat(adapters, [0.3, 0.3]), data)
    assert found == pytest.approx(min(epoch["eval_loss"] for epoch in learnt.card.training["validation"]), rel=0.05)


@pytest.mark.slow
def test_a_projection_is_shared_by_the_layers_and_lowers_the_loss(
    llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from calora.training.mean_loss import mean_loss
    from calora.training.merges import learn_projection

    adapters, data = [random_adapter(llama, 1, rank=2), random_adapter(llama, 2, rank=3)], encoded(llama, rows)
    before = logits(llama.model, llama.tokenizer)
    learnt = learn_projection(llama, adapters, data, data, SETTINGS, tmp_path / "work", "summary+es")
    assert_near(logits(llama.model, llama.tokenizer), before)
    assert learnt.parameters == 7 * 5 * 5
    assert np.abs(learnt.tensors["q_proj"][:2, 2:]).max() > 0  # one task's B joined to the other's A
    loss = mean_loss(llama, projected(adapters, learnt.tensors), data)
    assert loss < mean_loss(llama, cat(adapters), data)
    assert loss == pytest.approx(min(epoch["eval_loss"] for epoch in learnt.card.training["validation"]), rel=0.02)


def test_the_mean_is_over_tokens_whatever_the_batches(llama: Backbone) -> None:
    data = EncodedExamples(
        llama,
        Prompt("Say:\n", "\n", ""),
        lambda epoch: [Example(str(n), "all", "a", "word " * (1 + 9 * n), ()) for n in range(3)],
    )
    assert mean_loss(llama, None, data, 1) == pytest.approx(mean_loss(llama, None, data, 3), rel=1e-5)
