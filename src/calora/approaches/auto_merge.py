"""What `calora merge --auto` finds, as an approach: method and strengths searched on validation dialogues."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter
from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.attach import attached
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.making import adapter_steps, validation_retrieval
from calora.bench.store import Made, Step
from calora.console import counting
from calora.generation import Pass
from calora.merging import merge
from calora.merging.search import BUDGET, FINALISTS, Trial, search_merge
from calora.storage import read_card, write_text

VERSION = 2  # the finalists are of different methods


class Found(BaseModel):
    """All merges that were tried, the best first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tried: tuple[Trial, ...]


@approach("auto-merge", "Merge chosen by --auto")
def auto_merge(case: Case, budget: int = BUDGET) -> Plan:
    """Plan one pass with the merge that `calora merge --auto` chooses for the composition.

    Args:
        case: What is asked for.
        budget: How many merges are tried by their validation loss.
    """

    def passes(backbone: Backbone, values: Sequence[Any]) -> list[Pass]:
        best: Trial = values[-1].tried[0]
        merged = merge(values[:-1], best.method, best.strengths)
        return one_pass(backbone, case.composition, merged)

    return Plan(
        passes,
        (*adapter_steps(case), _search_step(case, budget)),
        found=lambda values: values[-1].tried[0].model_dump(mode="json"),
    )


def _search_step(case: Case, budget: int) -> Step[Found]:
    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.data import EncodedExamples
        from calora.training.mean_loss import mean_loss

        backbone, examples = case.backbone, case.training_examples("validation")
        data = EncodedExamples(backbone, backbone.prompt(case.composition), examples)

        def score(merged: Adapter) -> float:
            with attached(backbone, merged):
                return validation_retrieval(case)

        with counting("searching merges", budget + FINALISTS) as advance:
            tried = search_merge(
                [made.value for made in parents],
                lambda merged: mean_loss(backbone, merged, data),
                score,
                budget=budget,
                finalists=FINALISTS,
                follow=lambda: advance(1),
            )
        write_text(target, Found(tried=tuple(tried)).model_dump_json(indent=2) + "\n")

    settings = case.settings("validation") | {
        "version": VERSION,
        "budget": budget,
        "finalists": FINALISTS,
        "max_tokens": case.recipe.max_tokens,
    }
    name = f"{case.composition} seed {case.seed}"
    return Step("auto-merge", name, settings, make, partial(read_card, model=Found), adapter_steps(case))
