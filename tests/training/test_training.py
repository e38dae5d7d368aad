from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.calibration import KINDS, Calibration, CalibrationCard, Kind, fresh_tensors
from calora.corpus import Example
from calora.encoding import encode_answer, encode_prompt
from calora.errors import CaloraError
from calora.generation import Pass, answer_all
from calora.merging import Merge, linear_factors
from calora.tasks import Composition
from calora.training.settings import TrainingSettings
from tests.conftest import ARCHITECTURES, adapter_logits, assert_same_updates, random_adapter

SUMMARY = Composition.parse("summary")
SETTINGS = TrainingSettings(learning_rate=0.01, epochs=3, batch_size=4, patience=9, seed=3)


class Killed(Exception):
    pass


def examples_of(rows: list[dict[str, Any]], asked: list[int] | None = None) -> Callable[[int], list[Example]]:
    """Short examples whose texts are other ones in each epoch, as those with drawn names are."""

    def examples(epoch: int) -> list[Example]:
        if asked is not None:
            asked.append(epoch)
        return [
            Example(row["id"], "arts", f"{epoch}{row['dialogue'][0][1]}"[:80], row["summary"]["en"][:40], ("A", "B"))
            for row in rows
        ]

    return examples


@pytest.fixture
def train_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows[:10]


def bits(backbone: Backbone) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in backbone.model.state_dict().items()}


def make_card(backbone: Backbone, kind: Kind) -> CalibrationCard:
    return CalibrationCard(
        kind=kind,
        rank=2 if kind == "low-rank" else 0,
        shared="kind",
        composition="summary",
        merge=Merge(),
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        prompt=backbone.prompt(SUMMARY),
    )


def calibrate(
    backbone: Backbone,
    rows: list[dict[str, Any]],
    work: Path,
    kind: Kind = "low-rank",
    judge: Callable[[], float] | None = None,
    settings: TrainingSettings = SETTINGS,
) -> Calibration:
    from calora.training.calibration import train_calibration

    merged = linear_factors([random_adapter(backbone, seed) for seed in (1, 2)])
    examples = examples_of(rows)
    card = make_card(backbone, kind)
    return train_calibration(backbone, merged, card, examples, examples, settings, work, judge=judge)


def adapt(
    backbone: Backbone,
    rows: list[dict[str, Any]],
    work: Path,
    judge: Callable[[], float] | None = None,
    settings: TrainingSettings = SETTINGS,
    composition: Composition = SUMMARY,
    start: Adapter | None = None,
) -> Adapter:
    from calora.training.adapter import train_adapter

    examples = examples_of(rows)
    return train_adapter(
        backbone, composition, examples, examples, settings, work, rank=4, alpha=8, start=start, judge=judge
    )


def judge_killed_in(epoch: int) -> Callable[[], float]:
    """A judge that prefers later epochs, and is killed in one of them."""
    calls = iter(range(1, 10))

    def judge() -> float:
        number = next(calls)
        if number == epoch:
            raise Killed
        return float(number)

    return judge


def killed_at_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training die in the middle of an epoch, once."""
    from calora.training import learner

    real, calls = learner.completion_loss, iter(range(1, 1000))

    def loss(*args: Any) -> Any:
        if args[0].training or next(calls) == step:
            raise Killed
        return real(*args)

    monkeypatch.setattr(learner, "completion_loss", loss)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def tensors_of(adapter: Adapter) -> dict[str, Any]:
    return {f"{name}.{half}": getattr(pair, half) for name, pair in adapter.modules.items() for half in ("a", "b")}


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_leaves_the_weights_to_the_bit(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path, kind: Kind
) -> None:
    before = bits(llama)
    calibration = calibrate(llama, train_rows, tmp_path / "work", kind)
    losses = [entry["eval_loss"] for entry in calibration.card.training["validation"]]
    assert len(losses) == 3
    assert losses[-1] < losses[0] - 0.01
    assert 0 < calibration.card.training["shipped_kl"] < 1e-4  # rounding to bfloat16 is 1 part in 256 at most
    assert bits(llama) == before
    fresh = fresh_tensors(calibration.card, random_adapter(llama), SETTINGS.seed)
    assert calibration.tensors.keys() == fresh.keys()
    assert not any(np.array_equal(calibration.tensors[name], fresh[name]) for name in fresh)


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
    assert set(adapter.modules) == set(backbone.targets)
    assert bits(backbone) == before
    assert [type(module) for module in backbone.model.modules()] == names
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert np.array_equal(adapter_logits(backbone, None), answer)


def test_training_on_leaves_the_calibration_it_begins_with_as_it_is(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from calora.training.calibration import train_calibration

    first = calibrate(llama, train_rows, tmp_path / "work")
    before = {name: value.copy() for name, value in first.tensors.items()}
    merged = linear_factors([random_adapter(llama, seed) for seed in (1, 2)])
    examples = examples_of(train_rows)
    second = train_calibration(llama, merged, first.card, examples, examples, SETTINGS, tmp_path / "again", start=first)
    assert same(dict(first.tensors), before)
    losses = [one.card.training["validation"][-1]["eval_loss"] for one in (first, second)]
    assert losses[1] < losses[0]


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


@pytest.mark.parametrize("train", [calibrate, adapt])
@pytest.mark.parametrize("how", ["at the judge", "in mid-epoch", "while saving"])
def test_a_killed_run_goes_on_to_exactly_the_same_values(
    llama: Backbone,
    train_rows: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train: Callable[..., Any],
    how: str,
) -> None:
    expected = train(llama, train_rows, tmp_path / "whole", judge=judge_killed_in(9))
    work = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if how == "while saving":  # the weights are written, the rest is not
            from transformers import Trainer

            real, saves = Trainer._save_rng_state, iter(range(1, 10))

            def save(self: Any, folder: str) -> None:
                if next(saves) == 2:
                    raise Killed
                real(self, folder)

            patch.setattr(Trainer, "_save_rng_state", save)
        elif how == "in mid-epoch":
            killed_at_step(3 + 2 + 2, patch)  # three steps and two batches of validation an epoch
        train(llama, train_rows, work, judge=judge_killed_in(2 if how == "at the judge" else 9))
    assert work.is_dir()
    seen = judge_killed_in(9)
    seen()  # the first epoch is done
    found = train(llama, train_rows, work, judge=seen)
    assert seen() == 4  # epochs 2 and 3 were done, epoch 1 not again
    if isinstance(found, Adapter):
        assert same(tensors_of(found), tensors_of(expected))
    else:
        assert same(dict(found.tensors), dict(expected.tensors))
    assert not any(hasattr(module, "lora_A") for module in llama.model.modules())


def test_values_end_at_the_epoch_that_the_judge_prefers(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    figures = iter([0.2, 0.9, 0.4])
    seen: list[dict[str, Any]] = []
    from calora.training import calibration as module

    real = module.calibrated_updates

    def keep(backbone: Any, merged: Any, card: Any, parameters: dict[str, Any]) -> Any:
        seen.append(parameters)
        return real(backbone, merged, card, parameters)

    values: list[dict[str, Any]] = []

    def judge() -> float:
        values.append({name: value.detach().numpy().copy() for name, value in seen[0].items()})
        return next(figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "calibrated_updates", keep)
        found = calibrate(llama, train_rows, tmp_path / "work", judge=judge)
    assert same(dict(found.tensors), values[1])
    assert not same(values[1], values[2])
    judged = [entry["eval_judge"] for entry in found.card.training["validation"] if "eval_judge" in entry]
    assert judged == [0.2, 0.9, 0.4]


def test_training_stops_when_validation_loss_no_longer_falls(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = TrainingSettings(learning_rate=0.0, epochs=5, batch_size=4, patience=2)
    found = calibrate(llama, train_rows, tmp_path / "work", settings=settings)
    assert len(found.card.training["validation"]) == 3


def test_a_run_killed_behind_its_end_trains_no_further(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calora.training.loop._stops", lambda losses, patience: len(losses) >= 2)
    settings = SETTINGS.model_copy(update={"epochs": 6})
    expected = calibrate(llama, train_rows, tmp_path / "work", settings=settings)
    assert len(expected.card.training["validation"]) == 2, "it stopped by itself"
    killed_at_step(1, monkeypatch)
    monkeypatch.setattr("calora.training.calibration.completion_log_probabilities", lambda *args: np.zeros((1, 2)))
    monkeypatch.setattr("calora.training.calibration.divergence", lambda *args: 0.0)
    found = calibrate(llama, train_rows, tmp_path / "work", settings=settings)
    assert same(dict(found.tensors), dict(expected.tensors))
    assert found.card.training["best_step"] == expected.card.training["best_step"]
    assert found.card.training["validation"] == expected.card.training["validation"]


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


def test_one_seed_gives_one_calibration(llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path) -> None:
    one_epoch = SETTINGS.model_copy(update={"epochs": 1})
    first, second, other = (
        calibrate(llama, train_rows, tmp_path / str(run), settings=one_epoch.model_copy(update={"seed": seed}))
        for run, seed in enumerate((1, 1, 2))
    )
    assert same(dict(first.tensors), dict(second.tensors))
    assert not same(dict(first.tensors), dict(other.tensors))


def test_each_epoch_has_its_own_texts_and_validation_the_first(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from calora.training.calibration import train_calibration

    asked: tuple[list[int], list[int]] = ([], [])
    train_calibration(
        llama,
        random_adapter(llama),
        make_card(llama, "row-scale"),
        examples_of(train_rows, asked[0]),
        examples_of(train_rows, asked[1]),
        SETTINGS,
        tmp_path / "work",
    )
    assert list(dict.fromkeys(asked[0])) == [0, 1, 2]
    assert set(asked[1]) == {0}
