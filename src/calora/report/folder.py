"""What a run folder holds, as reports read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calora.bench.cells import Cell, cell_stem, predictions_file, read_cell, read_predictions
from calora.bench.recipe import CONTROL
from calora.errors import CaloraError
from calora.tasks import Composition

_ORDER = ("zero-shot", "adapter", "linear", "linear-tuned", "multi-step", "constant", "neighbour", "ceiling")


def read_cells(run: Path) -> list[Cell]:
    """Read all cells of a run, in the order of the demo's table.

    Raises:
        CaloraError: The folder holds no cells, or one of them is damaged.
    """
    cells = [read_cell(path) for path in sorted((run / "cells").glob("*.json"))]
    if not cells:
        raise CaloraError(f"{run} holds no cells", "give the folder of a run that got as far as its first result")
    return sorted(cells, key=_place)


def predictions_of(run: Path, cell: Cell) -> list[dict[str, Any]]:
    """Read a cell's predictions, one mapping per dialogue.

    Raises:
        CaloraError: They are missing or damaged, or fewer or more than the cell says.
    """
    path = run / "cells" / f"{cell_stem(cell.composition, cell.approach, cell.backbone, cell.seed)}.json"
    hint = f"remove {path} and run again"
    try:
        rows = read_predictions(path)
    except ValueError as error:
        raise CaloraError(f"{predictions_file(path)} is not JSON lines: {error}", hint) from error
    if len(rows) != cell.n:
        raise CaloraError(f"{predictions_file(path)} has {len(rows)} lines, its cell speaks of {cell.n}", hint)
    return rows


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
