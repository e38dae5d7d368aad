"""The search of a tuned row: every candidate on the search's compositions, judged on validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from calora.bench.case import Case, Workplace
from calora.bench.cells import Cell
from calora.bench.rows import Choice, Place, Row, Trial, candidates_of, choice_file
from calora.bench.store import StepFailedError
from calora.errors import CaloraError, FolderError, MachineError
from calora.storage import fingerprint, read_card, write_text


@dataclass(frozen=True)
class Search:
    """What a search tries, and where.

    Args:
        row: The tuned row.
        candidates: Options.
        places: Of the search's compositions, with the recipe's first seed.
        key: Fingerprint of all that the choice depends on.
        path: Where the choice lies.
    """

    row: Row
    candidates: Sequence[Mapping[str, Any]]
    places: Sequence[Place]
    key: str
    path: Path

    @property
    def found(self) -> Choice | None:
        """What was chosen, if that was done with the same settings."""
        found = read_card(self.path, Choice) if self.path.exists() else None
        return found if found is not None and found.key == self.key else None


def search_of(
    workplace: Workplace, run: Path, row: Row, backbone: str, key_of: Callable[[Place, Mapping[str, Any]], str]
) -> Search:
    """The search of a row on a backbone.

    Args:
        workplace: With the recipe, which has a search.
        run: The run folder.
        row: A tuned one.
        backbone: As for `Backbone.load`.
        key_of: (place, options) to the key of the validation cell.
    """
    recipe = workplace.recipe
    assert recipe.search is not None
    candidates = candidates_of(row, recipe.search.budget)
    cases = [Case(workplace, backbone, recipe.parse(name), recipe.seeds[0]) for name in recipe.search.compositions]
    places = [Place(row, case) for case in cases]
    trials = [key_of(place, options) for options in candidates for place in places]
    key = fingerprint([candidates, trials, [case.composition.metric for case in cases]])
    return Search(row, candidates, places, key, choice_file(run, row.label, backbone))


def choose(search: Search, answer: Callable[[Place, Mapping[str, Any]], Cell]) -> Choice:
    """Try every candidate and write down which has the highest mean retrieval; the task's ROUGE breaks ties.

    Args:
        search: What to try.
        answer: (place, options) to the validation cell.

    Raises:
        CaloraError: No candidate came to its end. One that diverged, or cannot be, does not end the search: it is
            written down with its reason.
        FolderError, MachineError, StepFailedError: A file is damaged, the disk is full, or the like.
    """
    tried = []
    metrics = [f"masked_{place.case.composition.metric}" for place in search.places]
    for options in search.candidates:
        try:
            cells = [answer(place, options) for place in search.places]
        except (CaloraError, StepFailedError) as error:
            reason = error.reason if isinstance(error, StepFailedError) else error
            if isinstance(reason, MachineError | FolderError) or not isinstance(reason, CaloraError):
                raise  # that says nothing of the candidate
            tried.append(Trial(options=dict(options), failed=str(error)))
            continue
        retrieval = fmean([cell.scores["retrieval"] for cell in cells])
        rouge = fmean([cell.scores[metric] for cell, metric in zip(cells, metrics, strict=True)])
        tried.append(Trial(options=dict(options), retrieval=retrieval, rouge=rouge))
    ended = [trial for trial in tried if trial.failed is None]
    if not ended:
        raise CaloraError(
            f"no candidate of {search.row.label} came to its end, the first: {tried[0].failed}",
            "give the approach other options, or leave out its tuned setting",
        )
    # The means of scores that were rounded differ in their last digits where they are the same share of dialogues.
    best = max(ended, key=lambda trial: (round(trial.retrieval, 3), trial.rouge))
    choice = Choice(approach=search.row.approach.name, options=best.options, tried=tried, key=search.key)
    write_text(search.path, choice.model_dump_json(indent=2) + "\n")
    return choice
