from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.training import loop
from calora.training.settings import TrainingSettings
from tests.training.helpers import (
    SETTINGS,
    Killed,
    adapt,
    calibrate,
    judge_killed_in,
    killed_at_step,
    same,
    tensors_of,
)


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


def test_checkpoints_of_another_training_are_refused(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    first = calibrate(llama, train_rows, tmp_path / "work", settings=settings)
    again = calibrate(llama, train_rows, tmp_path / "work", settings=settings)
    assert same(dict(again.tensors), dict(first.tensors))
    other = settings.model_copy(update={"learning_rate": 0.02})
    for rows, wanted in ((train_rows, other), (train_rows[1:], settings)):
        with pytest.raises(CaloraError, match="work holds the checkpoints of another training"):
            calibrate(llama, rows, tmp_path / "work", settings=wanted)
    with pytest.raises(CaloraError, match="another training"):  # of the same start, beside another merge
        calibrate(llama, train_rows, tmp_path / "work", settings=settings, strengths=(1.0, 0.5))


def test_a_claim_without_a_checkpoint_holds_nothing(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    expected = calibrate(llama, train_rows, tmp_path / "work", settings=settings)
    other = settings.model_copy(update={"learning_rate": 0.02})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at_step(1, patch)
        calibrate(llama, train_rows, tmp_path / "killed", settings=other)
    found = calibrate(llama, train_rows, tmp_path / "killed", settings=settings)
    assert same(dict(found.tensors), dict(expected.tensors))
    with pytest.raises(CaloraError, match="checkpoints of another training"):
        calibrate(llama, train_rows, tmp_path / "killed", settings=other)


def test_one_folder_is_not_for_two_trainings_at_once(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    def judge() -> float:
        with pytest.raises(CaloraError, match=r"another process works in .*work"):
            calibrate(llama, train_rows, tmp_path / "work")
        return 0.5

    found = calibrate(llama, train_rows, tmp_path / "work", judge=judge)
    assert len(found.card.training["validation"]) == SETTINGS.epochs


def test_the_best_epoch_is_found_where_its_folder_has_moved(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    figures = iter([0.2, 0.9, 0.4])
    best = calibrate(llama, train_rows, tmp_path / "here", judge=lambda: next(figures))
    (tmp_path / "here").rename(tmp_path / "there")
    found = calibrate(llama, train_rows, tmp_path / "there", judge=judge_killed_in(0))
    assert same(dict(found.tensors), dict(best.tensors))
    assert found.card.training["best_step"] == best.card.training["best_step"] < found.card.training["steps"]


def test_one_graphics_card_is_taken_where_there_are_several(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainingArguments

    from calora.training import loop

    real, seen = TrainingArguments.__post_init__, []

    def four(self: Any) -> None:
        real(self)
        self._n_gpu = 4

    def trainer(args: Any, **rest: Any) -> Any:
        seen.append(args.n_gpu)
        raise Killed

    monkeypatch.setattr(TrainingArguments, "__post_init__", four)
    monkeypatch.setattr(loop, "_Trainer", trainer)
    with pytest.raises(Killed):
        calibrate(llama, train_rows, tmp_path / "work")
    assert seen == [1]


def test_of_epochs_that_the_judge_likes_alike_the_one_of_least_loss_is_kept(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    found = calibrate(llama, train_rows, tmp_path / "work", judge=lambda: 0.5).card.training
    losses = [entry["eval_loss"] for entry in found["validation"]]
    assert losses[-1] == min(losses) < losses[0]
    assert found["best_step"] == found["steps"]


def test_checkpoints_beside_other_weights_are_refused(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    adapt(llama, train_rows[:4], tmp_path / "work", settings=settings)
    with pytest.raises(CaloraError, match="checkpoints of another training"):
        adapt(replace(llama, sha256="0" * 64), train_rows[:4], tmp_path / "work", settings=settings)


def test_training_is_as_its_settings_say(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def trainer(args: Any, **rest: Any) -> Any:
        seen.append(args)
        raise Killed

    monkeypatch.setattr(loop, "_Trainer", trainer)
    settings = TrainingSettings(learning_rate=0.02, warmup=0.1, weight_decay=0.3)
    with pytest.raises(Killed):
        calibrate(llama, train_rows, tmp_path / "work", settings=settings)
    (args,) = seen
    assert (args.learning_rate, args.warmup_steps, args.weight_decay) == (0.02, 0.1, 0.3)
    assert (args.lr_scheduler_type, args.max_grad_norm) == ("linear", 1.0)
