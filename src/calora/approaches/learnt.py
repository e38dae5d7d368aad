"""Merges whose numbers are learnt by gradients: DAM, AdaMerging, strengths for every module, a projection."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calora.adapter import Adapter
from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.making import adapter_steps, validation_retrieval
from calora.bench.store import Made, Step
from calora.corpus import Split
from calora.generation import Pass, answer_all
from calora.merging import cat
from calora.merging.learnt import Learnt, per_module, projected, read_learnt, write_learnt
from calora.storage import Array
from calora.training.settings import TrainingSettings

if TYPE_CHECKING:
    from calora.training.data import EncodedExamples

VERSION = 1
Learn = Callable[[Case, Sequence[Adapter], TrainingSettings, Path], Learnt]


@approach(
    "dam",
    "DAM",
    search=[{"rate": rate} for rate in (3e-4, 1e-3, 3e-3, 1e-2)],
    source="https://arxiv.org/abs/2410.08371",
)
def dam(case: Case, rate: float = 1e-3, epochs: int = 1) -> Plan:
    """Plan one pass with the DAM merge, learnt on the single-task data of all adapters.

    Args:
        case: What is asked for.
        rate: Learning rate; the published 1e-3 by default.
        epochs: Over the data of all tasks.
    """

    def passes(backbone: Backbone, values: Sequence[Any]) -> list[Pass]:
        from calora.training.dam import dam_update

        return one_pass(backbone, case.composition, dam_update(backbone, values[:-1], values[-1]))

    def learn(case: Case, adapters: Sequence[Adapter], training: TrainingSettings, work: Path) -> Learnt:
        from calora.training.dam import train_dam

        own = [case.of(task) for task in case.composition.tasks]
        train, validation = ([_encoded(one, split) for one in own] for split in ("train", "validation"))
        return train_dam(case.backbone, adapters, train, validation, training, work, str(case.composition))

    step = replace(
        _learnt_step(case, "dam", learn, rate, epochs), learns_from=tuple(task.name for task in case.composition.tasks)
    )
    return Plan(passes, (*adapter_steps(case), step), lambda values: values[-1:])


@approach(
    "learnt-strengths",
    "Learnt strengths per module",
    search=[{"rate": rate, "start": s} for rate in (1e-2, 5e-2) for s in (0.5, 1.0)],
)
def learnt_strengths(case: Case, rate: float = 1e-2, start: float | None = None, epochs: int | None = None) -> Plan:
    """Plan one pass with a product merge whose strengths, one a module and an adapter, composed examples taught.

    Args:
        case: What is asked for.
        rate: Learning rate.
        start: Every strength to begin with; 1/N if None.
        epochs: At most; the recipe's for calibrations if None.
    """

    def learn(case: Case, adapters: Sequence[Adapter], training: TrainingSettings, work: Path) -> Learnt:
        from calora.training.merges import learn_strengths

        data = _encoded(case, "train"), _encoded(case, "validation")
        judge = partial(validation_retrieval, case)
        name = str(case.composition)
        return learn_strengths(case.backbone, adapters, *data, training, work, name, start=start, judge=judge)

    return _adapter_plan(case, _learnt_step(case, "strengths", learn, rate, epochs, start=start), per_module)


@approach(
    "adamerging",
    "AdaMerging",
    search=[{"rate": rate, "start": s} for rate, s in ((1e-3, 0.3), (1e-2, 0.3), (1e-2, 0.5), (1e-2, 1.0))],
    source="https://arxiv.org/abs/2310.02575",
)
def adamerging(case: Case, rate: float = 1e-3, start: float = 0.3, epochs: int | None = None) -> Plan:
    """Plan one pass with AdaMerging: strengths per module that make the merge sure of what it says.

    No reference is read. The work has classifiers, one prediction a text. Here it is every token of the answers that
    the starting merge gives to the training texts under the composite prompt.

    Args:
        case: What is asked for.
        rate: Learning rate; the published 1e-3 by default.
        start: Every strength to begin with; the published 0.3 by default.
        epochs: At most; the recipe's for calibrations if None.
    """

    def learn(case: Case, adapters: Sequence[Adapter], training: TrainingSettings, work: Path) -> Learnt:
        from calora.training.merges import learn_strengths

        merged = cat(adapters, [start] * len(adapters))
        data = _encoded(case, "train", merged), _encoded(case, "validation", merged)
        name = str(case.composition)
        return learn_strengths(case.backbone, adapters, *data, training, work, name, objective="entropy", start=start)

    step = _learnt_step(case, "adamerging", learn, rate, epochs, start=start)
    return _adapter_plan(case, replace(step, learns_from=(case.composition.tasks[0].name,)), per_module)


@approach(
    "projection",
    "Projection merge",
    search=[{"rate": rate, "start": s} for rate in (1e-3, 4e-3) for s in (0.5, 1.0)],
    source="https://arxiv.org/abs/2510.13848",
)
def projection(case: Case, rate: float = 1e-3, start: float | None = None, epochs: int | None = None) -> Plan:
    """Plan one pass with our reading of the projection merge.

    Args:
        case: What is asked for.
        rate: Learning rate; none is published.
        start: On the diagonal to begin with; 1/N if None.
        epochs: At most; the recipe's for calibrations if None.
    """

    def learn(case: Case, adapters: Sequence[Adapter], training: TrainingSettings, work: Path) -> Learnt:
        from calora.training.merges import learn_projection

        data = _encoded(case, "train"), _encoded(case, "validation")
        judge = partial(validation_retrieval, case)
        name = str(case.composition)
        return learn_projection(case.backbone, adapters, *data, training, work, name, start=start, judge=judge)

    return _adapter_plan(case, _learnt_step(case, "projection", learn, rate, epochs, start=start), projected)


def _adapter_plan(
    case: Case, step: Step[Learnt], merge: Callable[[Sequence[Adapter], Mapping[str, Array]], Adapter]
) -> Plan:
    """One pass with the low-rank adapter that the learnt numbers make of the case's adapters."""
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, merge(values[:-1], values[-1].tensors)),
        (*adapter_steps(case), step),
        lambda values: values[-1:],
    )


def _learnt_step(
    case: Case, kind: str, learn: Learn, rate: float, epochs: int | None, **options: float | None
) -> Step[Learnt]:
    """What is learnt for the case's adapters; `options` are what else it depends on."""
    changes = {"learning_rate": rate, "epochs": epochs or case.recipe.calibration.epochs, "seed": case.seed}
    training = case.recipe.calibration.model_copy(update=changes)

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        write_learnt(learn(case, [made.value for made in parents], training, work), target)

    settings = case.settings("train", "validation") | options
    settings |= {"version": VERSION, "training": training.model_dump(), "max_tokens": case.recipe.max_tokens}
    return Step(kind, f"{case.composition} seed {case.seed}", settings, make, read_learnt, adapter_steps(case))


def _encoded(case: Case, split: Split, answered_by: Adapter | None = None) -> "EncodedExamples":
    """The case's examples; with an adapter, its own answers stand for the references."""
    from calora.training.data import EncodedExamples

    backbone, prompt = case.backbone, case.backbone.prompt(case.composition)
    if answered_by is not None:
        first = case.training_texts(split)
        answers = answer_all(
            backbone, [Pass(answered_by, prompt)], [e.text for e in first], max_tokens=case.recipe.max_tokens
        )
        own = [replace(e, target=a.text) for e, a in zip(first, answers, strict=True) if a.text]
        return EncodedExamples(backbone, prompt, lambda epoch: own)
    return EncodedExamples(backbone, prompt, case.training_examples(split))
