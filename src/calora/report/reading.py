"""Read the run folder of a benchmark: its cells and predictions, held against its recipe."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calora.bench.case import EVALUATION_SEED, Workplace
from calora.bench.cells import Cell, CellPlace, asked_places, place_of, predictions_file, read_cell
from calora.bench.llm_judging import read_llm_verdicts
from calora.bench.recipe import CONTROL, ApproachRecipe, Recipe, Setting
from calora.corpus import Example, record_id
from calora.errors import CaloraError
from calora.report.folder import is_control, is_single
from calora.report.results import MEASURES, Entry, Measure, Repeat, Results, Scores
from calora.storage import numbered_lines, read_card
from calora.tasks import Composition


def read_results(run: Path) -> Results:
    """Read the cells and predictions that a run's recipe asks for.

    Raises:
        CaloraError: The run has none of them, two files are the same cell, or a file does not fit the recipe: names it.
    """
    recipe = read_card(run / "recipe.json", Recipe)
    asked = list(asked_places(recipe))
    found, left_out = _found(run, set(asked))
    wanted = [place for place in asked if not is_single(place[1])]
    if not any(place in found for place in wanted):
        few = "of single tasks alone" if found else "none of its recipe's"
        raise CaloraError(f"the cells in {run} are {few}", "a report needs a first cell of a composition")
    labels = dict.fromkeys(place[0] for place in wanted)
    compositions = tuple(dict.fromkeys(place[1] for place in wanted if any(key[1] == place[1] for key in found)))
    workplace = Workplace(recipe)
    own = _own([found[place] for place in asked if is_single(place[1]) and place in found], workplace)
    examples = {name: tuple(workplace.asked(recipe.parse(name))) for name in compositions}
    asked_of = {record_id(example, recipe.parse(name)) for name, ones in examples.items() for example in ones}
    dialogues = tuple(record.id for record in workplace.records("test") if record.id in asked_of)
    if len(dialogues) < 2:
        raise CaloraError(f"{run} has {len(dialogues)} test dialogue", "a report needs at least two")
    entries = {}
    for label in labels:
        for name in compositions:
            paths = {place[2:]: found[place] for place in wanted if place[:2] == (label, name) and place in found}
            if paths:
                entries[label, name] = _entry(paths, recipe.parse(name), examples[name], dialogues, workplace)
    heads: dict[str, Cell] = {}
    for (label, _), entry in entries.items():
        heads.setdefault(label, next(iter(entry.cells.values())))
    alike = dict.fromkeys(heads, True)
    for (label, _), entry in entries.items():
        alike[label] &= all(cell.options == heads[label].options for cell in entry.cells.values())
    given = {
        label: _title(row, setting, heads[label], alike[label])
        for row in recipe.approaches
        for setting in row.settings
        if (label := row.label_of(setting)) in heads
    }
    titles = dict(sorted(given.items(), key=lambda item: is_control(heads[item[0]])))
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
        Counter(place[:2] for place in wanted),
        own,
        left_out,
        mixed([cell for entry in entries.values() for cell in entry.cells.values()]),
    )


def _title(row: ApproachRecipe, setting: Setting, cell: Cell, alike: bool) -> str:
    """The title of a row, and the settings that it has instead of the published ones, unless the recipe's words say so.

    Settings in which the row's cells differ, as they were chosen for each backbone, are not told. A row of a package
    that is not here has the title that its cell has.
    """
    named = bool(row.title or row.label)
    title = row.title_of(setting, CONTROL if is_control(cell) else "") if named else cell.title
    if not cell.options or not alike or (named and setting == "paper"):
        return title
    return f"{title} ({', '.join(f'{key} {value}' for key, value in cell.options.items())})"


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


def _found(run: Path, wanted: set[CellPlace]) -> tuple[dict[CellPlace, Path], tuple[Path, ...]]:
    """The files of the cells that are wanted, and of the others."""
    found: dict[CellPlace, Path] = {}
    others = []
    for path in sorted((run / "cells").glob("*.json")):
        cell = read_cell(path)
        place = place_of(cell)
        if place not in wanted:
            others.append(path)
        elif place in found:
            raise CaloraError(f"{path} is the same cell as {found[place].name}", "remove one of them and run again")
        else:
            found[place] = path
    return found, tuple(others)


def _entry(
    paths: Mapping[Repeat, Path],
    composition: Composition,
    examples: Sequence[Example],
    dialogues: Sequence[str],
    workplace: Workplace,
) -> Entry:
    cells = {repeat: read_cell(path) for repeat, path in paths.items()}
    for repeat, path in paths.items():
        _check_provenance(path, cells[repeat], workplace)
    answers = [_with_verdicts(path, _predictions(path, examples)) for path in paths.values()]
    rouge = {"masked_rouge": f"masked_{composition.metric}", "rouge": composition.metric}
    keys = {measure: rouge.get(measure, measure) for measure in MEASURES}
    index = {name: place for place, name in enumerate(dialogues)}
    places = [index[record_id(example, composition)] for example in examples]
    scores: dict[Measure, Scores] = {}
    for measure, key in keys.items():
        if all(key in row["scores"] for rows in answers for row in rows):
            scores[measure] = np.full((len(paths), len(dialogues)), np.nan)
            for row, (path, rows) in enumerate(zip(paths.values(), answers, strict=True)):
                scores[measure][row, places] = _column(path, rows, key)
    models = frozenset(row["asked_model"] for rows in answers for row in rows if "asked_model" in row)
    return Entry(cells, scores, answers[0], models)


def _check_provenance(path: Path, cell: Cell, workplace: Workplace) -> None:
    """Refuse a cell that was answered on other terms than the recipe's, as far as it tells."""
    told = cell.provenance | {"data": cell.provenance.get("data", {}).get("test")}
    expected = {
        "data": workplace.data_key("test", workplace.recipe.parse(cell.composition)),
        "evaluation_seed": EVALUATION_SEED,
        "max_tokens": workplace.recipe.max_tokens,
    }
    for key, value in expected.items():
        if told.get(key) not in (value, None):
            raise CaloraError(
                f"{path}: {key} is {told[key]}, the recipe's is {value}",
                "the recipe or its records changed since: run the benchmark again",
            )


def mixed(cells: Sequence[Cell]) -> tuple[str, ...]:
    """What is not the same for all cells of a backbone and a seed, though a comparison needs it.

    Cells of another processor or precision differ by more than rounding: one other token, and a greedy answer goes on
    otherwise. Adapters are made anew where an artefact was lost.
    """
    kinds: dict[str, set[str]] = defaultdict(set)
    adapters: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for cell in cells:
        if cell.costs.passes:
            made = cell.provenance.get("made_with", {}).get("processor", "")
            kinds[f"the {cell.backbone} cells of seed {cell.seed}"].add(f"{made} {cell.provenance.get('dtype', '')}")
        for name, sha256 in cell.provenance.get("adapters", {}).items():
            adapters[cell.backbone, cell.seed, name].add(sha256)
    found = [f"{what} were made on {', '.join(sorted(made))}" for what, made in kinds.items() if len(made) > 1]
    found += [
        f"the adapter {name} of {backbone} was trained {len(made)} times"
        for (backbone, _, name), made in adapters.items()
        if len(made) > 1
    ]
    return tuple(found)


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
