"""DAM: the merge whose columns are learnt from the adapters themselves, without composed examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.making import adapter_steps
from calora.bench.store import Made, Step
from calora.generation import Pass
from calora.storage import read_card, read_tensors, write_tensors, write_text, writing_folder

VERSION = 1
FILE, CARD = "columns.safetensors", "columns.json"
_SEARCH = [{"rate": rate} for rate in (3e-4, 1e-3, 3e-3, 1e-2)]


@approach("dam", "DAM", search=_SEARCH, source="https://arxiv.org/abs/2410.08371")
def dam(case: Case, rate: float = 1e-3, epochs: int = 1) -> Plan:
    """Plan one pass with the DAM merge.

    Args:
        case: What is asked for.
        rate: Learning rate; the published 1e-3 by default.
        epochs: Over the single-task data of all adapters.
    """

    def passes(backbone: Backbone, values: Sequence[Any]) -> list[Pass]:
        from calora.training.dam import dam_update

        return one_pass(backbone, case.composition, dam_update(backbone, values[:-1], values[-1]))

    return Plan(passes, (*adapter_steps(case), _columns_step(case, rate, epochs)), lambda values: values[-1:])


def _columns_step(case: Case, rate: float, epochs: int) -> Step[Any]:
    training = case.recipe.calibration.model_copy(update={"learning_rate": rate, "epochs": epochs, "seed": case.seed})

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.dam import train_dam
        from calora.training.data import EncodedExamples

        backbone = case.backbone
        cases = [case.of(task) for task in case.composition.tasks]
        train, validation = (
            [EncodedExamples(backbone, backbone.prompt(one.composition), one.training_examples(split)) for one in cases]
            for split in ("train", "validation")
        )
        adapters = [made.value for made in parents]
        columns = train_dam(backbone, adapters, train, validation, training, work, str(case.composition))
        with writing_folder(target) as folder:
            write_tensors(folder / FILE, columns.tensors)
            write_text(folder / CARD, columns.card.model_dump_json(indent=2) + "\n")

    settings = case.settings("train", "validation") | {"version": VERSION, "training": training.model_dump()}
    name = f"{case.composition} seed {case.seed}"
    return Step("dam", name, settings, make, _read_columns, adapter_steps(case))


def _read_columns(folder: Path) -> Any:
    from calora.training.dam import Columns, DamCard

    return Columns(read_card(folder / CARD, DamCard), read_tensors(folder / FILE))
