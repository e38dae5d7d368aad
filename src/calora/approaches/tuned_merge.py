"""The linear merge at its best: start and strengths chosen on validation dialogues."""

import itertools
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.merging import Merge, Start
from calora.training.data import EncodedExamples
from calora.training.mean_loss import mean_loss

Grid = Mapping[Start, Sequence[float]]


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
    data: EncodedExamples,
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
