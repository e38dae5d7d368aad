"""One calibration for several compositions: all languages, all tones, or everything of two tasks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from calora.adapter import adapter_sha256
from calora.approaches.calibration import training_of
from calora.approaches.linear import linear_merge
from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.making import adapter_steps, merged
from calora.bench.store import Made, Step
from calora.calibration import Calibration, CalibrationCard, Kind, calibrated, read_calibration, write_calibration
from calora.corpus import records_for
from calora.errors import CaloraError
from calora.generation import Pass
from calora.merging import Start
from calora.tasks import Composition

VERSION = 1
Group = Literal["role", "all"]


@approach("calibration-shared", "Calibration shared by a group", search=[{"rate": rate} for rate in (5e-4, 1e-3, 2e-3)])
def shared(
    case: Case,
    group: Group = "role",
    kind: Kind = "column-bias",
    start: Start = "factors",
    strength: float | None = None,
    rate: float | None = None,
    epochs: int | None = None,
    rank: int = 4,
) -> Plan:
    """Plan one pass with a calibration that several compositions share, each with its own adapters' merge.

    Args:
        case: What is asked for; of two tasks.
        group: `role` (a primary task with every language, or with every tone, as the case has one) or `all` (every
            primary task with every secondary one).
        kind: Of the calibration.
        start: The merge that it starts from.
        strength: Of both adapters in it; the start's own if None.
        rate: Learning rate; the recipe's for calibrations if None.
        epochs: At most; likewise.
        rank: Of the low-rank kind.
    """
    training = training_of(case, rate, epochs).model_copy(update={"seed": case.seed})
    merge = linear_merge(case, start, strength)  # all members are of two tasks
    members = [replace(case, composition=composition) for composition in group_of(case, group)]
    own = adapter_steps(case)
    others = {step.key: step for member in members for step in adapter_steps(member)}

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.shared import Member, train_shared_calibration

        backbone = case.backbone
        by_key = dict(zip(others, parents, strict=True))
        card = CalibrationCard(
            kind=kind,
            rank=rank,
            shared="kind",
            composition=" ".join(str(member.composition) for member in members),
            merge=merge,
            parents={made.value.card.name: adapter_sha256(made.path) for made in parents},
            backbone=backbone.name,
            backbone_sha256=backbone.sha256,
        )
        trained = [
            Member(
                merge([by_key[step.key].value for step in adapter_steps(member)]),
                backbone.prompt(member.composition),
                member.training_examples("train"),
                member.training_examples("validation"),
            )
            for member in members
        ]
        write_calibration(train_shared_calibration(backbone, trained, card, training, work), target)

    settings = {
        "version": VERSION,
        "members": [member.settings("train", "validation") for member in members],
        "training": training.model_dump(),
        "merge": merge.model_dump(mode="json"),
        "kind": kind,
        "rank": rank,
    }
    name = f"{len(members)} compositions {kind} seed {case.seed}"
    step: Step[Calibration] = Step("calibration", name, settings, make, read_calibration, tuple(others.values()))

    def passes(backbone: Backbone, values: Sequence[Any]) -> list[Pass]:
        *adapters, calibration = values
        return one_pass(backbone, case.composition, calibrated(merged(backbone, merge, adapters), calibration))

    return Plan(passes, (*own, step), lambda values: values[-1:], shared_by=len(members))


def group_of(case: Case, group: Group) -> list[Composition]:
    """The compositions of two tasks that share a calibration with a case, as far as the records have references.

    Raises:
        CaloraError: The case has not a primary and one secondary task, or there is nothing to train it on.
    """
    primary, secondary = case.composition.primary, case.composition.secondary
    if primary is None or len(secondary) != 1:
        raise CaloraError(
            f"{case.composition} is not of a primary and one secondary task", "share calibrations of two tasks"
        )
    tasks = case.recipe.known_tasks().values()
    if group == "role":
        found = [Composition((primary, task)) for task in tasks if task.role == secondary[0].role]
    else:
        primaries = [task for task in tasks if task.role == "primary"]
        found = [Composition((one, task)) for one in primaries for task in tasks if task.role != "primary"]
    records = case.place.records("train")
    group_found = [composition for composition in found if records_for(records, composition)]
    if case.composition not in group_found:
        raise CaloraError(
            f"no training record has references for {case.composition}", "a group is trained on all that share it"
        )
    return group_found
