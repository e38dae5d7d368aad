"""The steps that approaches are made of: adapters, joint experts and calibrations of a case."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calora.adapter import Adapter, Factors, adapter_sha256, read_adapter, write_adapter
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.store import Made, Step
from calora.calibration import Calibration, CalibrationCard, Kind, Shared, read_calibration, write_calibration
from calora.generation import Pass, answer_all
from calora.merging import Merge
from calora.metrics import score_answers
from calora.tasks import Task
from calora.training.settings import TrainingSettings

ADAPTER_VERSION = 1
CALIBRATION_VERSION = 1


def adapter_step(case: Case, task: Task) -> Step[Adapter]:
    """The adapter of one task, trained on single-task data as the recipe says."""
    return expert_step(case.of(task), case.recipe.adapter)


def adapter_steps(case: Case) -> tuple[Step[Adapter], ...]:
    """The adapters of a composition's tasks, in order."""
    return tuple(adapter_step(case, task) for task in case.composition.tasks)


def expert_step(case: Case, training: TrainingSettings, *, rank: int = 32, alpha: int = 16) -> Step[Adapter]:
    """A LoRA trained on the case's own examples: a joint expert where the composition has several tasks.

    Args:
        case: Gives the data and the prompt.
        training: Its settings; the seed is the case's.
        rank: r.
        alpha: The update is alpha / r times B A.
    """
    training = training.model_copy(update={"seed": case.seed})

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.adapter import train_adapter

        train, validation = case.training_examples("train"), case.training_examples("validation")
        adapter = train_adapter(
            case.backbone, case.composition, train, validation, training, work, rank=rank, alpha=alpha
        )
        write_adapter(adapter, target)

    settings = case.settings("train", "validation") | {
        "version": ADAPTER_VERSION,
        "training": training.model_dump(),
        "rank": rank,
        "alpha": alpha,
    }
    kind = "adapter" if len(case.composition.tasks) == 1 else "joint-expert"
    return Step(kind, f"{case.composition} seed {case.seed}", settings, make, read_adapter)


def calibration_step(
    case: Case,
    adapters: Sequence[Step[Adapter]],
    merge: Merge,
    training: TrainingSettings,
    *,
    kind: Kind,
    rank: int = 4,
    shared: Shared = "kind",
) -> Step[Calibration]:
    """A calibration of a merge of adapters.

    Args:
        case: Gives the data and the prompt.
        adapters: What is merged; none for a calibration of the backbone alone.
        merge: How they become one.
        training: Its settings; the seed is the case's.
        kind: Of the calibration.
        rank: Of the low-rank kind.
        shared: By all layers per kind of module, or not.
    """
    training = training.model_copy(update={"seed": case.seed})

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.calibration import train_calibration

        backbone = case.backbone
        card = CalibrationCard(
            kind=kind,
            rank=rank,
            shared=shared,
            composition=str(case.composition),
            merge=merge,
            parents={made.value.card.name: adapter_sha256(made.path) for made in parents},
            backbone=backbone.name,
            backbone_sha256=backbone.sha256,
            prompt=backbone.prompt(case.composition),
        )
        calibration = train_calibration(
            backbone,
            merged(backbone, merge, [made.value for made in parents]),
            card,
            case.training_examples("train"),
            case.training_examples("validation"),
            training,
            work,
            judge=partial(validation_retrieval, case),
        )
        write_calibration(calibration, target)

    settings = case.settings("train", "validation") | {
        "version": CALIBRATION_VERSION,
        "training": training.model_dump(),
        "merge": merge.model_dump(mode="json"),
        "kind": kind,
        "rank": rank,
        "shared": shared,
    }
    name = f"{case.composition} {kind} seed {case.seed}"
    return Step("calibration", name, settings, make, read_calibration, tuple(adapters))


def merged(backbone: Backbone, merge: Merge, adapters: Sequence[Adapter]) -> Adapter:
    """The merge of adapters; without any an update of zeros, so that a calibration can stand alone."""
    if adapters:
        return merge(adapters)
    zeros = {
        name: Factors(np.zeros((1, inside), np.float32), np.zeros((out, 1), np.float32))
        for name, (out, inside) in backbone.targets.items()
    }
    return Adapter(zeros)


def validation_retrieval(case: Case) -> float:
    """Validation retrieval, in percent, of whatever acts on the backbone now, under the composite prompt."""
    examples = case.evaluation_examples("validation")
    answers = answer_all(
        case.backbone,
        [Pass(None, case.backbone.prompt(case.composition))],
        [example.text for example in examples],
        max_tokens=case.recipe.max_tokens,
    )
    return score_answers(
        [answer.text for answer in answers],
        [example.target for example in examples],
        [example.names for example in examples],
        [example.domain for example in examples],
        case.composition.language,
    ).means["retrieval"]
