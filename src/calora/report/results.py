"""What a benchmark's run says, as arrays: every row of the recipe on every composition, dialogue by dialogue."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calora.bench.cells import Cell
from calora.bench.recipe import Recipe
from calora.corpus import Example, record_id
from calora.tasks import Composition

Measure = Literal["retrieval", "masked_rouge", "rouge", "in_language", "judge", "llm_judge"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
MEASURE_NAMES: dict[Measure, str] = {
    "retrieval": "retrieval %",
    "masked_rouge": "masked ROUGE",
    "rouge": "ROUGE, the paper's measure",
    "in_language": "in the asked language %",
    "judge": "judge says yes %",
    "llm_judge": "a language model says yes % (what it garbles is a no)",
}
Scores = NDArray[np.float64]
Repeat = tuple[str, int]

_KINDS = {"language": "translation", "tone": "tone"}
_CATEGORIES = ("summary+translation", "summary+tone", "reply+translation", "reply+tone", "three tasks")


@dataclass(frozen=True)
class Entry:
    """One row of the recipe on one composition.

    Attributes:
        cells: Repeat, which is a backbone and a seed, to its cell.
        scores: Measure to scores [repeats, dialogues], NaN where the composition lacks a dialogue; only measures that
            every prediction has.
        answers: The predictions of the first repeat, one mapping an example of the composition.
        models: The language models that judged.
    """

    cells: dict[Repeat, Cell]
    scores: dict[Measure, Scores]
    answers: tuple[dict[str, Any], ...]
    models: frozenset[str]


@dataclass(frozen=True)
class Results:
    """What a benchmark's run says; every array has the dialogues in one order.

    Attributes:
        run: The run folder.
        recipe: As it was resolved.
        titles: Label to title of each row that has a cell, in the recipe's order, controls last.
        controls: Labels of the rows that are no approach.
        compositions: Those that have a cell, in the recipe's order; single tasks are none.
        dialogues: The ids of the test dialogues that some composition has.
        examples: Composition to what was asked, one example for each dialogue that it has, in their order.
        entries: (label, composition) to what is there.
        asked_model: The language model whose verdicts stand beside the scores; None without any.
        asked: (label, composition) to how many cells the recipe asks for there, a repeat each.
        own: Cells of single tasks, the adapters' own, in the recipe's order; their titles say the task and the seed.
        left_out: Files of cells that the recipe does not, or no longer, ask for.
        mixed: In what the cells differ that should be the same for all, a sentence each.
    """

    run: Path
    recipe: Recipe
    titles: dict[str, str]
    controls: frozenset[str]
    compositions: tuple[str, ...]
    dialogues: tuple[str, ...]
    examples: dict[str, tuple[Example, ...]]
    entries: dict[tuple[str, str], Entry]
    asked_model: str | None
    asked: dict[tuple[str, str], int]
    own: tuple[Cell, ...]
    left_out: tuple[Path, ...]
    mixed: tuple[str, ...]

    @property
    def domains(self) -> list[str]:
        """Of each dialogue."""
        known = {
            record_id(example, self.recipe.parse(name)): example.domain
            for name, examples in self.examples.items()
            for example in examples
        }
        return [known[name] for name in self.dialogues]

    @property
    def measures(self) -> list[Measure]:
        """Those that some row has which is no control."""
        rows = [label for label in self.titles if label not in self.controls]
        return [measure for measure in MEASURES if any(self.having(label, measure) for label in rows)]

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The paper's categories, and what else there is behind them, to their compositions."""
        found: dict[str, list[str]] = {name: [] for name in _CATEGORIES}
        for name in self.compositions:
            found.setdefault(category(self.recipe.parse(name)), []).append(name)
        return {name: tuple(members) for name, members in found.items() if members}

    def cells(self, label: str | None = None) -> list[Cell]:
        """Those of a row, or all."""
        return [
            cell for (row, _), entry in self.entries.items() if label in (None, row) for cell in entry.cells.values()
        ]

    def having(self, label: str, measure: Measure) -> list[str]:
        """The compositions on which a row has a measure."""
        return [
            name
            for name in self.compositions
            if (label, name) in self.entries and measure in self.entries[label, name].scores
        ]


def category(composition: Composition) -> str:
    """The column of the paper's table that a composition belongs to, such as `summary+translation`."""
    if len(composition.tasks) > 2:
        return "three tasks"
    return "+".join(_KINDS.get(task.role, task.name) for task in composition.tasks)


def scores_of(results: Results, label: str, measure: Measure, names: Sequence[str] | None = None) -> Scores:
    """The scores of a row as a table [compositions, dialogues], each composition the mean of its repeats.

    NaN stands where a composition lacks a dialogue.

    So a composition with fewer seeds counts as much as the others; where all have the same seeds, the mean, and every
    statistic of `calora.metrics`, is that of [compositions * seeds, dialogues].

    Args:
        results: What `read_results` read.
        label: Of the row.
        measure: Of the scores.
        names: Compositions that have them; all of these if left out.
    """
    chosen = results.having(label, measure) if names is None else names
    return _stacked([results.entries[label, name].scores[measure].mean(axis=0) for name in chosen])


def paired_scores(results: Results, labels: Sequence[str], measure: Measure) -> list[Scores]:
    """The scores of several rows, each [compositions, dialogues], on the compositions and repeats that all have."""
    shared = shared_repeats(results, labels, measure)
    return [
        _stacked([_over(results.entries[label, name], measure, common) for name, common in shared.items()])
        for label in labels
    ]


def shared_repeats(results: Results, labels: Sequence[str], measure: Measure) -> dict[str, list[Repeat]]:
    """Composition to the repeats that several rows have with a measure; without those that share none."""
    found = {}
    for name in results.compositions:
        if not all(name in results.having(label, measure) for label in labels):
            continue
        entries = [results.entries[label, name] for label in labels]
        common = [repeat for repeat in entries[0].cells if all(repeat in entry.cells for entry in entries)]
        if common:
            found[name] = common
    return found


def _over(entry: Entry, measure: Measure, repeats: Sequence[Repeat]) -> Scores:
    places = list(entry.cells)
    chosen: Scores = entry.scores[measure][[places.index(repeat) for repeat in repeats]].mean(axis=0)
    return chosen


def _stacked(rows: Sequence[Scores]) -> Scores:
    return np.stack(rows) if rows else np.empty((0, 0))
