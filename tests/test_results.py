"""The results that are committed: their scores come out again from their predictions."""

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import pytest
from sacrebleu.metrics.helpers import extract_all_char_ngrams

from calora.bench.case import Case, Workplace
from calora.bench.cells import read_cell, read_predictions
from calora.bench.judging import asked_examples
from calora.bench.recipe import Recipe
from calora.judges import Thresholds, judge_answers
from calora.metrics import score_answers
from calora.report.reading import read_results
from calora.storage import read_card
from calora.tasks import Composition

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "results").rglob("recipe.json"))
CELLS = [cell for recipe in RECIPES for cell in sorted((recipe.parent / "cells").glob("*.json"))]


def test_there_are_results() -> None:
    assert len(CELLS) >= 300
    assert all((recipe.parent / "cells").is_dir() for recipe in RECIPES)


@pytest.fixture(scope="module")
def places() -> dict[Path, Workplace]:
    """The records of each run."""
    return {run: Workplace(read_card(run / "recipe.json", Recipe)) for run in {path.parents[1] for path in CELLS}}


@pytest.fixture(scope="module", autouse=True)
def _each_text_is_counted_once() -> Iterator[None]:
    """Retrieval compares a text with a dozen others, and every cell of a composition has the same references."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sacrebleu.metrics.chrf.extract_all_char_ngrams", lru_cache(maxsize=2048)(extract_all_char_ngrams)
        )
        yield


@pytest.mark.parametrize("path", CELLS, ids=lambda path: path.stem)
def test_scores_come_out_again_from_the_predictions(path: Path, places: dict[Path, Workplace]) -> None:
    cell, rows, place = read_cell(path), read_predictions(path), places[path.parents[1]]
    absent = [str(file) for file in (*place.recipe.data.records, *place.recipe.data.tested_on) if not file.exists()]
    if absent:
        pytest.skip(f"{absent[0]} is not here: docs/data.md says how it is made")
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
    for name in cell.scores.keys() - scored.means.keys():
        assert name.startswith("judge")
        assert cell.scores[name] == pytest.approx(fmean(row["scores"][name] for row in rows), abs=1e-3)
    for row, found in zip(rows, scored.rows, strict=True):
        assert {name: row["scores"][name] for name in found} == pytest.approx(found, abs=1e-2)


@pytest.mark.slow
def test_the_judge_says_again_what_stands_in_a_cell() -> None:
    path = ROOT / "results/demo-full-0/cells/summary+es--multi-step--gemma3-270m--0.json"
    composition, rows = Composition.parse("summary+es"), read_predictions(path)
    thresholds = Thresholds.model_validate(read_cell(path).provenance["judge"]["thresholds"])
    examples = asked_examples(path, rows, Workplace(read_card(path.parents[1] / "recipe.json", Recipe)), composition)
    verdicts = judge_answers([row["answer"] for row in rows], examples, composition, thresholds)
    said = [100.0 * verdict.passed == row["scores"]["judge"] for verdict, row in zip(verdicts, rows, strict=True)]
    assert sum(said) >= 0.95 * len(rows), "another processor's embeddings differ by some 0.001"


@pytest.mark.slow
def test_the_page_says_what_the_cells_say() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "results.py", "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_the_page_has_a_table_of_every_run() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for run in (recipe.parent.relative_to(ROOT).as_posix() for recipe in RECIPES):
        assert re.search(rf"<!-- cells: [^\n]*{re.escape(run)}( [^\n]*)?-->", page), f"docs/results.md lacks {run}"


@pytest.mark.parametrize(
    "study", [recipe.parent for recipe in RECIPES if "studies" in recipe.parts], ids=lambda path: path.name
)
def test_the_plot_of_a_study_says_what_its_cells_say(study: Path) -> None:
    drawn = (ROOT / "docs" / "studies" / f"{study.name}.svg").read_text(encoding="utf-8")
    said = re.findall(r'<text style="font-size: 8px[^>]*>([0-9.]+)</text>', drawn)
    script = runpy.run_path(str(ROOT / "benchmarks" / "studies.py"))
    lines = script["lines_of"](read_results(study))
    assert said == [f"{line.scores[measure].mean():.1f}" for measure in script["MEASURES"] for line in lines]
    assert f"studies/{study.name}.svg" in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
