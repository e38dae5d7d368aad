"""Small trainings on tiny models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.calibration import Calibration, CalibrationCard, Kind
from calora.corpus import Example
from calora.merging import Merge, linear_factors
from calora.tasks import Composition
from calora.training.settings import TrainingSettings
from tests.conftest import random_adapter

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


def bits(backbone: Backbone) -> dict[str, bytes]:
    state: dict[str, torch.Tensor] = backbone.model.state_dict()
    return {name: tensor.flatten().view(torch.uint8).numpy().tobytes() for name, tensor in state.items()}


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
    strengths: tuple[float, float] | None = None,
) -> Calibration:
    from calora.training.calibration import train_calibration

    merged = linear_factors([random_adapter(backbone, seed) for seed in (1, 2)], strengths)
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
