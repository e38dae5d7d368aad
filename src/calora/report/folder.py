"""What a run folder holds, as reports read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calora.bench.cells import Cell, asked_places, place_of, predictions_file, read_cell, read_predictions
from calora.bench.recipe import CONTROL, Recipe
from calora.errors import CaloraError
from calora.storage import read_card, slug
from calora.tasks import Composition

_ORDER = ("zero-shot", "adapter", "linear", "linear-tuned", "multi-step", "constant", "neighbour", "ceiling")


def read_cells(run: Path) -> list[Cell]:
    """Read the cells of a run that its recipe asks for, or all where there is none, in the order of the demo's table.

    Raises:
        CaloraError: The folder holds no such cells, or one of them is damaged.
    """
    cells = [read_cell(path) for path in sorted((run / "cells").glob("*.json"))]
    recipe = run / "recipe.json"
    if recipe.exists():  # a run of another seed or preset may have begun in the folder
        asked = set(asked_places(read_card(recipe, Recipe)))
        cells = [cell for cell in cells if place_of(cell) in asked]
    if not cells:
        raise CaloraError(f"{run} holds no cells", "give the folder of a run that got as far as its first result")
    return sorted(cells, key=_place)


def predictions_of(run: Path, cell: Cell) -> list[dict[str, Any]]:
    """Read a cell's predictions, one mapping per dialogue.

    Raises:
        CaloraError: They are missing or damaged, or fewer or more than the cell says.
    """
    path = _file_of(run, cell)
    hint = f"remove {path} and run again"
    try:
        rows = read_predictions(path)
    except ValueError as error:
        raise CaloraError(f"{predictions_file(path)} is not JSON lines: {error}", hint) from error
    if len(rows) != cell.n:
        raise CaloraError(f"{predictions_file(path)} has {len(rows)} lines, its cell speaks of {cell.n}", hint)
    return rows


def _file_of(run: Path, cell: Cell) -> Path:
    """Where a cell lies; how its backbone is written there hangs on where the run was started."""
    place = cell.composition, cell.approach, cell.backbone, cell.seed
    pattern = f"{slug(f'{cell.composition}--{cell.approach}')}--*--{cell.seed}.json"
    for path in sorted((run / "cells").glob(pattern)):
        found = read_cell(path)
        if (found.composition, found.approach, found.backbone, found.seed) == place:
            return path
    raise CaloraError(f"{run} has no cell of {' '.join(map(str, place))}", "run again")


def is_own(cell: Cell) -> bool:
    """Whether a cell is of a single task, such as an adapter's own, rather than of a composition."""
    return is_single(cell.composition)


def is_single(composition: str) -> bool:
    """Whether a composition, as it is written, is a single task."""
    return "+" not in composition


def is_control(cell: Cell) -> bool:
    """Whether a cell is no approach but shows what a measure gives for nothing, or for more than there is."""
    return cell.title.startswith(CONTROL)


def composed(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of the composition, approaches first and controls last."""
    return sorted((cell for cell in cells if not is_own(cell)), key=is_control)


def _place(cell: Cell) -> tuple[bool | int | str, ...]:
    """Where a cell stands in a table: calibrations and what else there is come behind the approaches known here."""
    if is_own(cell):
        secondary = Composition.parse(cell.composition).primary is None
        return True, secondary, cell.composition, cell.approach.endswith("-adapter")
    kind, task = cell.approach, 0
    if kind.startswith("adapter-"):
        kind, _, name = kind.partition("-")
        task = f"{cell.composition}+{name}".split("+").index(name)
    return False, is_control(cell), _ORDER.index(kind) if kind in _ORDER else len(_ORDER), task, cell.approach
