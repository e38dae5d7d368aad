"""The run folder of a benchmark as arrays: every row of the recipe on every composition, dialogue by dialogue."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calora.bench.case import EVALUATION_SEED, Case, Workplace
from calora.bench.cells import Cell, predictions_file, read_cell
from calora.bench.llm_judging import read_llm_verdicts
from calora.bench.recipe import Recipe
from calora.corpus import Example
from calora.errors import CaloraError
from calora.report.folder import CONTROL, is_control, is_single
from calora.storage import numbered_lines, read_card
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
_Place = tuple[str, str, str, int]

_KINDS = {"language": "translation", "tone": "tone"}
_CATEGORIES = ("summary+translation", "summary+tone", "reply+translation", "reply+tone", "three tasks")


@dataclass(frozen=True)
class Entry:
    """One row of the recipe on one composition.

    Attributes:
        cells: Repeat, which is a backbone and a seed, to its cell.
        scores: Measure to scores [repeats, dialogues]; only measures that every prediction has.
        answers: The predictions of the first repeat, one mapping a dialogue.
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
        dialogues: The ids of the test dialogues.
        examples: Composition to what was asked, one example a dialogue.
        entries: (label, composition) to what is there.
        asked_model: The language model whose verdicts stand beside the scores; None without any.
        own: Cells of single tasks, the adapters' own, in the recipe's order; their titles say the task and the seed.
        left_out: Files of cells that the recipe does not, or no longer, ask for.
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
    own: tuple[Cell, ...]
    left_out: tuple[Path, ...]

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
    found: list[list[Scores]] = [[] for _ in labels]
    for name in results.compositions:
        if not all(name in results.having(label, measure) for label in labels):
            continue
        entries = [results.entries[label, name] for label in labels]
        common = [repeat for repeat in entries[0].cells if all(repeat in entry.cells for entry in entries)]
        if common:
            for scores, entry in zip(found, entries, strict=True):
                scores.append(_over(entry, measure, common))
    return [_stacked(scores) for scores in found]


def read_results(run: Path) -> Results:
    """Read the cells and predictions that a run's recipe asks for.

    Raises:
        CaloraError: The run has none of them, two files are the same cell, or a file does not fit the recipe: names it.
    """
    recipe = read_card(run / "recipe.json", Recipe)
    asked = list(_places(recipe))
    found, left_out = _found(run, set(asked))
    wanted = [place for place in asked if not is_single(place[1])]
    if not any(place in found for place in wanted):
        few = "of single tasks alone" if found else "none of its recipe's"
        raise CaloraError(f"the cells in {run} are {few}", "a report needs a first cell of a composition")
    labels = dict.fromkeys(place[0] for place in wanted)
    compositions = tuple(dict.fromkeys(place[1] for place in wanted if any(key[1] == place[1] for key in found)))
    workplace = Workplace(recipe)
    own = _own([found[place] for place in asked if is_single(place[1]) and place in found], workplace)
    examples = {name: _examples(workplace, name) for name in compositions}
    dialogues = tuple(record.id for record in workplace.records("test"))
    if len(dialogues) < 2:
        raise CaloraError(f"{run} has {len(dialogues)} test dialogue", "a report needs at least two")
    entries = {}
    for label in labels:
        for name in compositions:
            paths = {place[2:]: found[place] for place in wanted if place[:2] == (label, name) and place in found}
            if paths:
                entries[label, name] = _entry(paths, recipe.parse(name), examples[name], workplace)
    heads: dict[str, Cell] = {}
    for (label, _), entry in entries.items():
        heads.setdefault(label, next(iter(entry.cells.values())))
    given = {
        row.label_of(setting): row.title_of(setting)
        for row in recipe.approaches
        for setting in row.settings
        if row.title or row.label
    }
    ordered = sorted(heads, key=lambda label: is_control(heads[label]))
    titles = {label: given.get(label, heads[label].title) for label in ordered}
    controls = frozenset(label for label, cell in heads.items() if is_control(cell))
    return Results(
        run,
        recipe,
        titles,
        controls,
        compositions,
        dialogues,
        examples,
        entries,
        _asked_model(run, entries),
        own,
        left_out,
    )


def _own(paths: Sequence[Path], workplace: Workplace) -> tuple[Cell, ...]:
    """The cells of single tasks, task by task; titles name the task, and backbone and seed where there are several."""
    cells = [read_cell(path) for path in paths]
    for path, cell in zip(paths, cells, strict=True):
        _check_provenance(path, cell, workplace)
    several = {key: len({getattr(cell, key) for cell in cells}) > 1 for key in ("backbone", "seed")}
    tasks = list(dict.fromkeys(cell.composition for cell in cells))

    def title(cell: Cell) -> str:
        more = [f"{key} {getattr(cell, key)}" for key, told in several.items() if told]
        name = ", ".join([cell.title.removeprefix(CONTROL).strip(), *more])
        return f"{CONTROL if is_control(cell) else ''} {cell.composition}: {name}".strip()

    ordered = sorted(cells, key=lambda cell: (tasks.index(cell.composition), cell.backbone, cell.seed))
    return tuple(cell.model_copy(update={"title": title(cell)}) for cell in ordered)


def _places(recipe: Recipe) -> Iterator[_Place]:
    """(label, composition, backbone, seed) of every cell that a recipe asks for."""
    for row in recipe.approaches:
        for label in map(row.label_of, row.settings):
            for name in row.compositions or recipe.compositions:
                for backbone in recipe.backbones:
                    for seed in row.seeds or recipe.seeds:
                        yield label, str(recipe.parse(name)), backbone, seed


def _found(run: Path, wanted: set[_Place]) -> tuple[dict[_Place, Path], tuple[Path, ...]]:
    """The files of the cells that are wanted, and of the others."""
    found: dict[_Place, Path] = {}
    others = []
    for path in sorted((run / "cells").glob("*.json")):
        cell = read_cell(path)
        place = (cell.approach, cell.composition, cell.backbone, cell.seed)
        if place not in wanted:
            others.append(path)
        elif place in found:
            raise CaloraError(f"{path} is the same cell as {found[place].name}", "remove one of them and run again")
        else:
            found[place] = path
    return found, tuple(others)


def _examples(workplace: Workplace, name: str) -> tuple[Example, ...]:
    recipe = workplace.recipe
    case = Case(workplace, recipe.backbones[0], recipe.parse(name), recipe.seeds[0])
    return tuple(case.evaluation_examples("test"))


def _entry(
    paths: Mapping[Repeat, Path], composition: Composition, examples: Sequence[Example], workplace: Workplace
) -> Entry:
    cells = {repeat: read_cell(path) for repeat, path in paths.items()}
    for repeat, path in paths.items():
        _check_provenance(path, cells[repeat], workplace)
    answers = [_with_verdicts(path, _predictions(path, examples)) for path in paths.values()]
    rouge = {"masked_rouge": f"masked_{composition.metric}", "rouge": composition.metric}
    keys = {measure: rouge.get(measure, measure) for measure in MEASURES}
    scores: dict[Measure, Scores] = {}
    for measure, key in keys.items():
        if all(key in row["scores"] for rows in answers for row in rows):
            scores[measure] = np.stack(
                [_column(path, rows, key) for path, rows in zip(paths.values(), answers, strict=True)]
            )
    models = frozenset(row["asked_model"] for rows in answers for row in rows if "asked_model" in row)
    return Entry(cells, scores, answers[0], models)


def _check_provenance(path: Path, cell: Cell, workplace: Workplace) -> None:
    """Refuse a cell that was answered on other terms than the recipe's, as far as it tells."""
    told = cell.provenance | {"data": cell.provenance.get("data", {}).get("test")}
    expected = {
        "data": workplace.data_key("test"),
        "evaluation_seed": EVALUATION_SEED,
        "max_tokens": workplace.recipe.max_tokens,
    }
    for key, value in expected.items():
        if told.get(key) not in (value, None):
            raise CaloraError(
                f"{path}: {key} is {told[key]}, the recipe's is {value}",
                "the recipe or its records changed since: run the benchmark again",
            )


def _predictions(cell: Path, examples: Sequence[Example]) -> tuple[dict[str, Any], ...]:
    """The predictions of a cell in the order of the examples."""
    path = predictions_file(cell)
    rows: dict[str, dict[str, Any]] = {}
    hint = f"remove {cell} and run again"
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
            name, fits = row["id"], isinstance(row["answer"], str) and isinstance(row["scores"], dict)
        except (ValueError, KeyError, TypeError) as error:
            raise CaloraError(f"{path}:{number} is no prediction: {error!r}", hint) from error
        if name in rows or not fits:
            raise CaloraError(f"{path}:{number}: {name} {'comes twice' if fits else 'is no prediction'}", hint)
        rows[name] = row
    odd = rows.keys() ^ {example.id for example in examples}
    if odd:
        raise CaloraError(f"{path} has other dialogues than the recipe's test split: {min(odd)}", hint)
    return tuple(rows[example.id] for example in examples)


def _with_verdicts(cell: Path, rows: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Predictions with what a language model said of them, if it was asked about all; what it garbled is no yes."""
    found = read_llm_verdicts(cell, rows)
    if found is None or found.counts["failed"] + found.counts["unjudged"]:
        return rows
    said = {name: 100.0 * (outcome == "yes") for name, outcome in found.outcomes.items()}
    return tuple(
        row | {"scores": row["scores"] | {"llm_judge": said[row["id"]]}, "asked_model": found.model} for row in rows
    )


def _asked_model(run: Path, entries: Mapping[tuple[str, str], Entry]) -> str | None:
    """The one language model that judged."""
    models = {model for entry in entries.values() for model in entry.models}
    if len(models) > 1:
        raise CaloraError(
            f"the verdicts in {run / 'llm'} are of several models: {', '.join(sorted(models))}",
            "ask one of them about every cell with calora judge --llm, or remove the folder",
        )
    return next(iter(models), None)


def _column(path: Path, rows: Sequence[Mapping[str, Any]], key: str) -> Scores:
    values = [row["scores"][key] for row in rows]
    if not all(isinstance(value, int | float) and np.isfinite(value) for value in values):
        raise CaloraError(f"{predictions_file(path)}: some scores of {key} are no numbers", "score the answers again")
    return np.asarray(values, dtype=np.float64)


def _over(entry: Entry, measure: Measure, repeats: Sequence[Repeat]) -> Scores:
    places = list(entry.cells)
    chosen: Scores = entry.scores[measure][[places.index(repeat) for repeat in repeats]].mean(axis=0)
    return chosen


def _stacked(rows: Sequence[Scores]) -> Scores:
    return np.stack(rows) if rows else np.empty((0, 0))
