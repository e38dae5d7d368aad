"""The linear merge at its best: start and strengths chosen on validation dialogues."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from calora.merging import Merge, Start
from calora.storage import read_card, write_text

if TYPE_CHECKING:
    from calora.training.data import EncodedExamples

Grid = Mapping[Start, Sequence[float]]
FINE: Grid = {"product": (0.6, 0.8, 1.0, 1.2), "factors": (0.5, 0.7, 0.85, 1.0)}
VERSION = 1


class Candidate(BaseModel):
    """One merge that was tried.

    Args:
        merge: Start and strengths.
        loss: Validation loss under the composite prompt.
        retrieval: Validation retrieval in percent, of those that were let to answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    merge: Merge
    loss: float
    retrieval: float | None = None


class MergeSearch(BaseModel):
    """What the search for a merge chose, and all that it tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chosen: Merge
    tried: list[Candidate]


@approach("linear-searched", "Linear merge, start and strengths searched")
def linear_searched(case: Case, strengths: Grid = FINE, finalists: int = 3) -> Plan:
    """Plan one pass with the linear merge that does best on validation, searched for each composition.

    Args:
        case: What is asked for.
        strengths: Of each start; each adapter gets each of them.
        finalists: How many of each start are let to answer.
    """
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, values[-1].chosen(values[:-1])),
        (*adapter_steps(case), search_step(case, strengths, finalists)),
        found=lambda values: values[-1].chosen.model_dump(mode="json"),
    )


def search_step(case: Case, strengths: Grid = FINE, finalists: int = 3) -> Step[MergeSearch]:
    """The search for the linear merge of a case's adapters; arguments as for `linear_searched`."""

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.data import EncodedExamples

        backbone = case.backbone
        examples = case.training_examples("validation")
        data = EncodedExamples(backbone, backbone.prompt(case.composition), examples)
        adapters = [made.value for made in parents]
        total = len(candidates(strengths, len(adapters))) + len(strengths) * finalists

        def judge(adapter: Adapter) -> float:
            with attached(backbone, adapter):
                return validation_retrieval(case)

        with counting("searching merges", total) as advance:
            chosen, tried = choose_merge(
                backbone, adapters, data, judge, strengths, finalists=finalists, follow=lambda: advance(1)
            )
        write_text(target, MergeSearch(chosen=chosen, tried=tried).model_dump_json(indent=2) + "\n")

    settings = case.settings("validation") | {
        "version": VERSION,
        "strengths": {start: list(values) for start, values in strengths.items()},
        "finalists": finalists,
        "max_tokens": case.recipe.max_tokens,
    }
    name = f"{case.composition} seed {case.seed}"
    return Step("merge-search", name, settings, make, partial(read_card, model=MergeSearch), adapter_steps(case))


def candidates(grid: Grid, adapters: int) -> list[Merge]:
    """Every start with every choice of strengths, for so many adapters."""
    return [
        Merge(start=start, strengths=strengths)
        for start, values in grid.items()
        for strengths in itertools.product(values, repeat=adapters)
    ]


def choose_merge(
    backbone: Backbone,
    adapters: Sequence[Adapter],
    data: "EncodedExamples",
    judge: Callable[[Adapter], float],
    grid: Grid,
    *,
    finalists: int = 3,
    follow: Callable[[], None] = lambda: None,
) -> tuple[Merge, list[Candidate]]:
    """Try every candidate by its validation loss, let the best of each start answer, take the best retrieval.

    Args:
        backbone: The model.
        adapters: What to merge.
        data: Composed validation examples, encoded.
        judge: Validation retrieval of an adapter, in percent.
        grid: The strengths to try for each start; each adapter gets each of them.
        finalists: How many of each start are let to answer.
        follow: Called after each trial.

    Returns:
        The merge chosen and all that was tried.
    """
    from calora.training.mean_loss import mean_loss

    tried = []
    for merge in candidates(grid, len(adapters)):
        tried.append(Candidate(merge=merge, loss=mean_loss(backbone, merge(adapters), data)))
        follow()
    tried.sort(key=lambda candidate: candidate.loss)
    final: list[Candidate] = []
    for start in grid:
        for candidate in [one for one in tried if one.merge.start == start][:finalists]:
            retrieval = judge(candidate.merge(adapters))
            final.append(candidate.model_copy(update={"retrieval": retrieval}))
            follow()
    best = max(final, key=lambda candidate: (candidate.retrieval or 0.0, -candidate.loss))
    rest = [one for one in tried if all(one.merge != other.merge for other in final)]
    return best.merge, [*final, *rest]
