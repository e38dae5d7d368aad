"""The results that are committed: their scores come out again from their predictions."""

from pathlib import Path

import pytest

from calora.bench.case import Case, Workplace
from calora.bench.cells import read_cell, read_predictions
from calora.bench.recipe import Recipe
from calora.metrics import score_answers
from calora.storage import read_card

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "results").rglob("recipe.json"))
CELLS = [cell for recipe in RECIPES for cell in sorted((recipe.parent / "cells").glob("*.json"))]


@pytest.fixture(scope="module")
def places() -> dict[Path, Workplace]:
    """The records of each run."""
    return {run: Workplace(read_card(run / "recipe.json", Recipe)) for run in {path.parents[1] for path in CELLS}}


@pytest.mark.parametrize("path", CELLS, ids=lambda path: path.stem)
def test_scores_come_out_again_from_the_predictions(path: Path, places: dict[Path, Workplace]) -> None:
    cell, rows, place = read_cell(path), read_predictions(path), places[path.parents[1]]
    case = Case(place, cell.backbone, place.recipe.parse(cell.composition), cell.seed)
    examples = case.evaluation_examples("test")
    assert [row["id"] for row in rows] == [example.id for example in examples]
    scored = score_answers(
        [row["answer"] for row in rows],
        [example.target for example in examples],
        [example.names for example in examples],
        [example.domain for example in examples],
        case.composition.language,
    )
    assert cell.n == len(rows)
    assert cell.chance == pytest.approx(scored.chance)
    assert {name: cell.scores[name] for name in scored.means} == pytest.approx(scored.means, abs=1e-3)
    for row, found in zip(rows, scored.rows, strict=True):
        assert {name: row["scores"][name] for name in found} == pytest.approx(found, abs=1e-2)


@pytest.mark.parametrize(
    "run", [recipe.parent for recipe in RECIPES if recipe.parent.name.startswith("demo")], ids=lambda run: run.name
)
def test_the_pages_figures_are_those_of_the_cells(run: Path) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for path in sorted((run / "cells").glob("*.json")):
        cell = read_cell(path)
        control = cell.title.startswith("control:")
        title = f"*{cell.title}*" if control else cell.title
        row = [cell.scores["retrieval"], cell.scores["masked_rougeL"], cell.scores["rougeL"]]
        assert f"| {title} | {' | '.join(f'{value:.1f}' for value in row)} |" in page, (
            f"docs/results.md lacks {cell.title}"
        )
