"""Verdicts of the offline judge for the cells of a run, written beside their scores."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from calora.bench.case import Workplace
from calora.bench.cells import Cell, asked_places, cell_at, place_of, predictions_file, read_cell, read_predictions
from calora.bench.recipe import Recipe
from calora.corpus import Example
from calora.errors import CaloraError
from calora.judges import Thresholds, ToneClassifier, choose_thresholds, judge_answers, train_tones
from calora.judges.references import parts_of
from calora.storage import fingerprint, read_card, slug, write_text
from calora.tasks import Composition, Task

JUDGE_VERSION = 1


class _Drawn(BaseModel):
    """Thresholds, and the fingerprint of what they were chosen on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    thresholds: Thresholds


def judge_run(run: Path, follow: Callable[[str], None] = lambda _: None) -> list[Cell]:
    """Judge every cell of a composition with a primary task and two tasks or more, unless that was done.

    A prediction's scores get `judge` (all tasks done: 0 or 100) and `judge_TASK`; the cell their means.

    Args:
        run: A run folder of `calora bench` or `calora demo`.
        follow: Told of each cell that is judged.

    Returns:
        The cells that have verdicts now.

    Raises:
        CaloraError: The folder is no run, or not one of its cells can be judged; if only some cannot, it is told.
    """
    tones: dict[tuple[Task, Task | None], ToneClassifier] = {}
    judged, refused = [], dict[str, CaloraError]()
    for path, cell, place, composition in judged_cells(run):
        parts = parts_of(composition)
        try:
            thresholds = _thresholds(run, place, composition)
            made_by = {
                "version": JUDGE_VERSION,
                "thresholds": thresholds.model_dump(),
                "tones": _learnt_from(place, composition) if parts.tone else None,
            }
            if cell.provenance.get("judge") != made_by:
                follow(f"{cell.title} on {composition}")
                learnt = (parts.primary, parts.language)
                if parts.tone is not None and learnt not in tones:
                    tones[learnt] = train_tones(place.records("train"), *learnt, _tones(place))
                cell = _judge(path, cell, place, composition, thresholds, tones.get(learnt), made_by)
        except CaloraError as error:
            refused[path.name] = error
        else:
            judged.append(cell)
    for name, reason in refused.items():
        follow(f"not judged: {name}: {reason}")
    if refused and not judged:
        raise next(iter(refused.values()))
    return judged


def _tones(place: Workplace) -> list[Task]:
    return [task for task in place.recipe.known_tasks().values() if task.role == "tone"]


def _learnt_from(place: Workplace, composition: Composition) -> list[str]:
    """What a classifier of tones is learnt from: the data of all of them, and the tones that it tells apart."""
    parts, tones = parts_of(composition), _tones(place)
    learnt = [[part for part in (parts.primary, tone, parts.language) if part] for tone in (None, *tones)]
    data = {place.data_key("train", Composition(tuple(tasks))) for tasks in learnt}
    return [*sorted(data), *sorted(task.key for task in tones)]


def judged_cells(run: Path) -> Iterator[tuple[Path, Cell, Workplace, Composition]]:
    """The cells of a run's recipe that ask for a primary task and others: file, cell, the run's records, composition.

    Raises:
        CaloraError: The folder is no run.
    """
    recipe = read_card(run / "recipe.json", Recipe)
    place = Workplace(recipe)
    asked = set(asked_places(recipe))
    for path in sorted((run / "cells").glob("*.json")):
        cell = read_cell(path)
        if place_of(cell) not in asked:
            continue
        composition = recipe.parse(cell.composition)
        if composition.primary is not None and composition.secondary:
            yield path, cell, place, composition


def asked_examples(
    path: Path, rows: Sequence[Mapping[str, Any]], place: Workplace, composition: Composition
) -> list[Example]:
    """The examples that predictions answer, in their order.

    Raises:
        CaloraError: A prediction is of a dialogue that the records do not have.
    """
    by_id = {example.id: example for example in place.asked(composition)}
    strange = [row["id"] for row in rows if row["id"] not in by_id]
    if strange:
        raise CaloraError(
            f"{predictions_file(path)} answers {strange[0]}, which is not in the run's test split",
            "judge with the records that the run was made with",
        )
    return [by_id[row["id"]] for row in rows]


def _thresholds(run: Path, place: Workplace, composition: Composition) -> Thresholds:
    """Chosen once on the validation split and kept in the run's folder."""
    path = run / "thresholds" / f"{slug(str(composition))}.json"
    tasks = [[task.name, task.key, task.language] for task in composition.tasks]
    key = fingerprint([JUDGE_VERSION, place.data_key("validation", composition), tasks])
    if path.exists():
        found = read_card(path, _Drawn)
        if found.key == key:
            return found.thresholds
    drawn = _Drawn(key=key, thresholds=choose_thresholds(place.records("validation"), composition))
    write_text(path, drawn.model_dump_json(indent=2) + "\n")
    return drawn.thresholds


def _judge(
    path: Path,
    cell: Cell,
    place: Workplace,
    composition: Composition,
    thresholds: Thresholds,
    tones: ToneClassifier | None,
    made_by: dict[str, Any],
) -> Cell:
    rows = read_predictions(path)
    examples = asked_examples(path, rows, place, composition)
    verdicts = judge_answers([row["answer"] for row in rows], examples, composition, thresholds, tones=tones)
    for row, verdict in zip(rows, verdicts, strict=True):
        row["scores"] |= {"judge": 100.0 * verdict.passed}
        row["scores"] |= {f"judge_{task}": 100.0 * done for task, done in verdict.tasks.items()}
    means = {
        name: round(sum(row["scores"][name] for row in rows) / len(rows), 4)
        for name in rows[0]["scores"]
        if name.startswith("judge")
    }
    if cell_at(path) != cell:
        raise CaloraError(f"{path} was made again meanwhile", "judge again")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(predictions_file(path), "\n".join(lines) + "\n")
    changed = cell.model_copy(
        update={"scores": cell.scores | means, "provenance": cell.provenance | {"judge": made_by}}
    )
    write_text(path, changed.model_dump_json(indent=2) + "\n")
    return changed
