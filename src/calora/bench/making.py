"""The steps that approaches are made of: adapters, joint experts and calibrations of a case."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calora.adapter import Adapter, Factors, adapter_sha256, read_adapter, write_adapter
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.store import Made, Step
from calora.calibration import SCALES, Calibration, CalibrationCard, Kind, Shared, read_calibration, write_calibration
from calora.corpus import Example, Split, read_pairs, write_pairs
from calora.generation import Pass, answer_all
from calora.merging import Merge
from calora.metrics import score_answers
from calora.storage import writing_folder
from calora.tasks import Composition, Task
from calora.training.settings import TrainingSettings

if TYPE_CHECKING:
    from calora.training.data import ExamplesOf

ADAPTER_VERSION = 1
CALIBRATION_VERSION = 1
SCALES_VERSION = 2  # what they add to 1 is learnt, where before the whole scale was
TEACHER_VERSION = 1
# Keys of this many tokens do not name it: they are older than the setting.
PLAIN_MAX_TOKENS = 96
TAUGHT: tuple[Split, ...] = ("train", "validation")
Taught = dict[Split, list[Example]]


def adapter_step(case: Case, task: Task) -> Step[Adapter]:
    """The adapter of one task, trained on single-task data as the recipe says."""
    return expert_step(case.of(task), case.recipe.adapter)


def adapter_steps(case: Case) -> tuple[Step[Adapter], ...]:
    """The adapters of a composition's tasks, in order."""
    return tuple(adapter_step(case, task) for task in case.composition.tasks)


def expert_step(
    case: Case,
    training: TrainingSettings,
    *,
    rank: int = 32,
    alpha: int = 16,
    merge: Merge | None = None,
) -> Step[Adapter]:
    """A LoRA trained on the case's own examples: a joint expert where the composition has several tasks.

    A joint expert keeps the epoch with the best validation retrieval, as calibrations do; an adapter of one task that
    with the lowest validation loss.

    Args:
        case: Gives the data and the prompt.
        training: Its settings; the seed is the case's.
        rank: r.
        alpha: The update is alpha / r times B A.
        merge: Of the tasks' adapters, to begin with; a fresh LoRA if None.
    """
    training = training.model_copy(update={"seed": case.seed})
    joint = len(case.composition.tasks) > 1

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.adapter import train_adapter

        adapter = train_adapter(
            case.backbone,
            case.composition,
            case.training_examples("train"),
            case.training_examples("validation"),
            training,
            work,
            rank=rank,
            alpha=alpha,
            start=None if merge is None else merge([made.value for made in parents]),
            judge=partial(validation_retrieval, case) if joint else None,
        )
        write_adapter(adapter, target)

    settings = case.training_settings() | {
        "version": ADAPTER_VERSION,
        "training": training.model_dump(),
        "rank": rank,
        "alpha": alpha,
        "merge": None if merge is None else merge.model_dump(mode="json"),
        **({"epoch": "by retrieval", "max_tokens": case.recipe.max_tokens} if joint else {}),
    }
    adapters = () if merge is None else adapter_steps(case)
    kind = "joint-expert" if joint else "adapter"
    return Step(kind, f"{case.composition} seed {case.seed}", settings, make, read_adapter, adapters)


def calibration_step(
    case: Case,
    steps: Sequence[Step[Adapter]],
    merge: Merge | Step[Any],
    training: TrainingSettings,
    *,
    kind: Kind,
    rank: int = 4,
    shared: Shared = "kind",
    sites: tuple[str, ...] | None = None,
    teacher: Step[Taught] | None = None,
    begin: Step[Calibration] | None = None,
) -> Step[Calibration]:
    """A calibration of a merge of adapters.

    Args:
        case: Gives the data and the prompt.
        steps: The adapters that are merged; none for a calibration of the backbone alone.
        merge: How they become one, or the search that chooses it.
        training: Its settings; the seed is the case's.
        kind: Of the calibration.
        rank: Of the low-rank kind.
        shared: By all layers per kind of module, or not.
        sites: The kinds of module that are calibrated; all if None.
        teacher: Its answers are the targets, in training and in validation; the corpus's references if None.
        begin: Whose values training begins with; the identity on the merge if None.
    """
    training = training.model_copy(update={"seed": case.seed})
    needed: tuple[Step[Any], ...] = (*steps, *(one for one in (merge, teacher, begin) if isinstance(one, Step)))

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.calibration import train_calibration

        backbone = case.backbone
        adapters = parents[: len(steps)]
        others = {step.key: made.value for step, made in zip(needed, parents, strict=True)}
        taught = None if teacher is None else others[teacher.key]
        chosen = merge if isinstance(merge, Merge) else others[merge.key].chosen
        card = CalibrationCard(
            kind=kind,
            rank=rank,
            shared=shared,
            sites=sites,
            composition=str(case.composition),
            merge=chosen,
            parents={made.value.card.name: adapter_sha256(made.path) for made in adapters},
            backbone=backbone.name,
            backbone_sha256=backbone.sha256,
            prompt=backbone.prompt(case.composition),
        )
        calibration = train_calibration(
            backbone,
            merged(backbone, chosen, [made.value for made in adapters]),
            card,
            _examples_of(case, "train", taught),
            _examples_of(case, "validation", taught),
            training,
            work,
            start=None if begin is None else others[begin.key],
            judge=partial(validation_retrieval, case, taught and taught["validation"]),
        )
        write_calibration(calibration, target)

    settings = case.settings("train", "validation") | {
        "version": SCALES_VERSION if kind in SCALES else CALIBRATION_VERSION,
        "training": training.model_dump(),
        "merge": merge.model_dump(mode="json") if isinstance(merge, Merge) else "searched",
        "kind": kind,
        "rank": rank,
        "shared": shared,
        "sites": sites,
        "taught": teacher is not None,
        **({"max_tokens": case.recipe.max_tokens} if case.recipe.max_tokens != PLAIN_MAX_TOKENS else {}),
    }
    name = f"{case.composition} {kind} seed {case.seed}"
    # What the adapters teach needs the texts alone.
    texts = () if teacher is None else (case.composition.tasks[0].name,)
    return Step("calibration", name, settings, make, read_calibration, needed, texts)


def teacher_step(case: Case) -> Step[Taught]:
    """What the adapters say one after the other, as targets: a composition's data made from texts alone."""

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        passes = [
            Pass(made.value, case.backbone.prompt(Composition((task,))))
            for made, task in zip(parents, case.composition.tasks, strict=True)
        ]
        with writing_folder(target) as folder:
            for split in TAUGHT:
                examples = case.training_texts(split)
                texts = [example.text for example in examples]
                answers = answer_all(case.backbone, passes, texts, max_tokens=case.recipe.max_tokens)
                pairs = zip(examples, answers, strict=True)
                write_pairs((replace(e, target=a.text) for e, a in pairs if a.text), folder / f"{split}.jsonl")

    settings = case.settings(*TAUGHT) | {"version": TEACHER_VERSION, "max_tokens": case.recipe.max_tokens}
    name = f"{case.composition} seed {case.seed}"
    texts = (case.composition.tasks[0].name,)
    return Step("teacher", name, settings, make, _read_taught, adapter_steps(case), texts)


def _read_taught(folder: Path) -> Taught:
    return {split: read_pairs(folder / f"{split}.jsonl") for split in TAUGHT}


def _examples_of(case: Case, split: Split, taught: Taught | None) -> "ExamplesOf":
    return case.training_examples(split) if taught is None else lambda epoch: taught[split]


def merged(backbone: Backbone, merge: Merge, adapters: Sequence[Adapter]) -> Adapter:
    """The merge of adapters; without any an update of zeros, so that a calibration can stand alone."""
    if adapters:
        return merge(adapters)
    zeros = {
        name: Factors(np.zeros((1, inside), np.float32), np.zeros((out, 1), np.float32))
        for name, (out, inside) in backbone.targets.items()
    }
    return Adapter(zeros)


def validation_retrieval(case: Case, given: Sequence[Example] | None = None) -> float:
    """Validation retrieval, in percent, of whatever acts on the backbone now, under the composite prompt.

    Args:
        case: Gives the examples and the prompt.
        given: What to answer instead of the case's own examples, whose references are then not needed.
    """
    if given is None:
        given = [example for example in case.evaluation_examples("validation") if example.domain != case.without]
    return retrieval_of(case.backbone, case.composition, given, case.recipe.max_tokens)


def retrieval_of(
    backbone: Backbone, composition: Composition, examples: Sequence[Example], max_tokens: int = PLAIN_MAX_TOKENS
) -> float:
    """Retrieval, in percent, of whatever acts on the backbone now, under the prompt of a composition."""
    texts = [example.text for example in examples]
    answers = answer_all(backbone, [Pass(None, backbone.prompt(composition))], texts, max_tokens=max_tokens)
    return score_answers(
        [answer.text for answer in answers],
        [example.target for example in examples],
        [example.names for example in examples],
        [example.domain for example in examples],
        composition.language,
    ).means["retrieval"]
