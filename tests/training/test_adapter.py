from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.corpus import Example
from calora.encoding import encode_answer, encode_prompt
from calora.errors import CaloraError
from calora.generation import Pass, answer_all
from calora.tasks import Composition
from calora.training.settings import TrainingSettings
from tests.conftest import ARCHITECTURES, adapter_logits, assert_same_updates, random_adapter
from tests.training.helpers import SETTINGS, SUMMARY, adapt, bits, examples_of, judge_killed_in


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_adapter_lowers_the_loss_and_leaves_the_backbone_to_the_bit(
    backbones: dict[str, Backbone], train_rows: list[dict[str, Any]], tmp_path: Path, architecture: str
) -> None:
    backbone = backbones[architecture]
    before, names = bits(backbone), [type(module) for module in backbone.model.modules()]
    answer = adapter_logits(backbone, None)
    adapter = adapt(backbone, train_rows, tmp_path / "work")
    assert adapter.card is not None
    losses = [entry["eval_loss"] for entry in adapter.card.training["validation"]]
    assert losses[-1] < losses[0] - 0.01
    assert 0 < adapter.card.training["shipped_kl"] < 1e-4
    assert adapter.card.added == 0
    assert set(adapter.modules) == set(backbone.targets)
    assert bits(backbone) == before
    assert [type(module) for module in backbone.model.modules()] == names
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert np.array_equal(adapter_logits(backbone, None), answer)


def test_a_joint_expert_is_learnt_for_its_composition_alone(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    both = Composition.parse("summary+es")
    expert = adapt(llama, train_rows[:4], tmp_path / "work", settings=settings, composition=both)
    assert expert.card
    assert expert.card.added == expert.parameters


def test_training_may_begin_with_an_adapter(llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path) -> None:
    start = random_adapter(llama, rank=4)
    still = SETTINGS.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    adapter = adapt(llama, train_rows, tmp_path / "work", settings=still, start=start)
    assert_same_updates(adapter, start)
    with pytest.raises(CaloraError, match="the start has rank 3 in"):
        adapt(llama, train_rows, tmp_path / "work", start=random_adapter(llama, rank=3))


def loss_with(backbone: Backbone, adapter: Adapter, examples: list[Example]) -> float:
    """Mean loss over examples through the shipped form of an adapter, by transformers' own loss."""
    import torch

    from calora.attach import attached

    total, count = 0.0, 0
    prompt = backbone.prompt(SUMMARY)
    model: Any = backbone.model
    with attached(backbone, adapter), torch.no_grad():
        for example in examples:
            question = encode_prompt(backbone.tokenizer, prompt, example.text, 200)
            answer = encode_answer(backbone.tokenizer, prompt, example.target)
            labels = torch.tensor([[-100] * len(question) + answer])
            loss = model(input_ids=torch.tensor([question + answer]), labels=labels).loss
            total, count = total + float(loss) * len(answer), count + len(answer)
    return total / count


def test_the_adapter_that_comes_out_has_the_loss_that_was_stated(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Which also holds that dropout is off in evaluation, and that alpha / r is folded in."""
    adapter = adapt(llama, train_rows[:4], tmp_path / "work", judge=judge_killed_in(9))
    assert adapter.card is not None
    losses = [entry["eval_loss"] for entry in adapter.card.training["validation"] if "eval_loss" in entry]
    assert losses[-1] < losses[0] - 0.01
    assert loss_with(llama, adapter, examples_of(train_rows[:4])(0)) == pytest.approx(losses[-1], rel=1e-4)


def test_dropout_acts_in_training_alone(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calora.training import adapter as module

    modes: dict[bool, set[bool]] = {True: set(), False: set()}
    real = module.Learner.forward

    @wraps(real)  # Trainer looks at the names of the arguments
    def forward(self: Any, **batch: Any) -> Any:
        layer = self.backbone.model.get_submodule("model.layers.0.mlp.up_proj")
        modes[self.training].add(layer.lora_dropout["default"].training)
        assert not self.backbone.model.training
        assert layer.lora_dropout["default"].p == 0.05
        return real(self, **batch)

    monkeypatch.setattr(module.Learner, "forward", forward)
    adapt(llama, train_rows[:4], tmp_path / "work", settings=SETTINGS.model_copy(update={"epochs": 2}))
    assert modes == {True: {True}, False: {False}}


def test_every_adapter_starts_from_the_same_a(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    import torch

    found = []
    for seed, text in ((0, "summary"), (1, "reply")):
        torch.manual_seed(100 + seed)
        settings = TrainingSettings(learning_rate=0.0, epochs=1, batch_size=4, seed=seed)
        found.append(adapt(llama, train_rows[:4], tmp_path / text, None, settings, Composition.parse(text)))
    first, second = found
    for module, pair in first.modules.items():
        assert np.array_equal(pair.a, second.modules[module].a)
        assert np.abs(pair.a).max() > 0
        assert not pair.b.any()
        assert not second.modules[module].b.any()


def test_a_judge_asks_a_joint_expert_in_the_precision_of_training(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    short = Backbone.load(llama.name, torch.bfloat16)
    answers: list[str] = []

    def judge() -> float:
        prompt = short.prompt(SUMMARY)
        answers.extend(a.text for a in answer_all(short, [Pass(None, prompt)], ["Ann: Hello.\nBob: Hi."], max_tokens=4))
        return 1.0

    adapt(short, train_rows, tmp_path / "work", judge=judge, settings=SETTINGS.model_copy(update={"epochs": 1}))
    assert len(answers) == 1
