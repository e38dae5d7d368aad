"""Runs that differ in their seed alone, read together: one table of scores [seeds, dialogues] for each approach."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calora.bench.cells import Cell
from calora.errors import CaloraError
from calora.report.folder import composed, is_control, predictions_of, read_cells
from calora.report.reading import mixed

Measure = Literal["retrieval", "masked_rougeL", "in_language"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
BASELINES = ("multi-step", "linear-tuned")


@dataclass(frozen=True)
class Pool:
    """What several runs say of the same dialogues.

    Attributes:
        composition: Of all runs.
        backbone: Of all runs.
        seeds: One per run.
        dialogues: The ids of the test dialogues.
        chance: Retrieval by guessing, in percent.
        titles: Approach to its title, in the order of a table.
        controls: Those approaches that are control rows.
        scores: Approach to measure to scores [seeds, dialogues].
        mixed: In what the cells differ that should be the same for all, a sentence each.
    """

    composition: str
    backbone: str
    seeds: tuple[int, ...]
    dialogues: tuple[str, ...]
    chance: float
    titles: dict[str, str]
    controls: frozenset[str]
    scores: dict[str, dict[Measure, NDArray[np.float64]]]
    mixed: tuple[str, ...] = ()


def pooled(runs: Sequence[Path]) -> Pool:
    """Read the scores of several runs, dialogue by dialogue.

    Approaches are told apart by their names: the title of a tuned merge names the strengths its seed chose.

    Args:
        runs: Run folders, one per seed.

    Raises:
        CaloraError: There are no runs, a folder is not whole, two have one seed, or they differ in composition,
            backbone, test dialogues or approaches.
    """
    if not runs:
        raise CaloraError("no runs to compare", "give at least one run folder")
    if len(set(runs)) < len(runs):
        raise CaloraError("a run is given twice", "give each once")
    read = {run: composed(read_cells(run)) for run in runs}
    _check_heads(read)
    tables = {run: {cell.approach: cell for cell in cells} for run, cells in read.items()}
    approaches = list(dict.fromkeys(approach for cells in tables.values() for approach in cells))
    for run, cells in tables.items():
        for approach in [*approaches, *BASELINES]:
            if approach not in cells:
                raise CaloraError(f"{run} lacks {approach}", "let the run go on to its end, or leave it out")
    first = tables[runs[0]]
    scores: dict[str, dict[Measure, NDArray[np.float64]]] = {}
    asked: dict[str, str] | None = None
    for approach in approaches:
        layers = []
        for run, cells in tables.items():
            rows = predictions_of(run, cells[approach])
            found = {row["id"]: row["text"] + row["reference"] for row in rows}
            asked = found if asked is None else asked
            # The order counts too: the scores are paired by their places.
            if list(found.items()) != list(asked.items()):
                raise CaloraError(
                    f"{run}: {approach} has other test dialogues than {runs[0]}: {_first_other(found, asked)}",
                    "compare runs of one preset and one corpus",
                )
            layers.append([[row["scores"][measure] for row in rows] for measure in MEASURES])
        table = np.asarray(layers, dtype=np.float64)  # [seeds, measures, dialogues]
        scores[approach] = {measure: table[:, index] for index, measure in enumerate(MEASURES)}
    dialogues = tuple(asked or ())
    if len(dialogues) < 2:
        raise CaloraError(f"{runs[0]} has {len(dialogues)} test dialogue", "run with at least two to compare")
    one = first[approaches[0]]
    return Pool(
        composition=one.composition,
        backbone=one.backbone,
        seeds=tuple(cells[approaches[0]].seed for cells in tables.values()),
        dialogues=dialogues,
        chance=one.chance,
        titles={approach: _title([cells[approach] for cells in tables.values()]) for approach in approaches},
        controls=frozenset(approach for approach in approaches if is_control(first[approach])),
        scores=scores,
        mixed=mixed([cell for cells in tables.values() for cell in cells.values()]),
    )


def _check_heads(tables: dict[Path, list[Cell]]) -> None:
    """Refuse runs that cannot be pooled: another composition or backbone, several seeds in one, or a seed twice."""
    wanted: tuple[str, str] | None = None
    seeds: dict[int, Path] = {}
    for run, cells in tables.items():
        for cell in cells:
            found = (cell.composition, cell.backbone)
            wanted = wanted or found
            if found != wanted:
                raise CaloraError(
                    f"{run}: {cell.approach} is {' on '.join(found)}, expected {' on '.join(wanted)}",
                    "compare runs of one composition on one backbone",
                )
        found_seeds = sorted({cell.seed for cell in cells})
        if len(found_seeds) > 1:
            raise CaloraError(f"{run} has the seeds {', '.join(map(str, found_seeds))}", "give a run a seed")
        (seed,) = found_seeds
        if seed in seeds:
            raise CaloraError(f"{run} has seed {seed}, as {seeds[seed]} has", "give each seed once")
        seeds[seed] = run


def _first_other(found: dict[str, str], asked: dict[str, str]) -> str:
    strange = next((name for name in found if found[name] != asked.get(name)), None)
    lacking = next((name for name in asked if name not in found), None)
    return strange or lacking or "another order"


def _title(cells: Sequence[Cell]) -> str:
    """The title of an approach; what stands in brackets goes if the seeds differ in it."""
    titles = {cell.title for cell in cells}
    return cells[0].title if len(titles) == 1 else cells[0].title.partition(" (")[0]
