import shutil
from pathlib import Path
from typing import Any

import pytest

from calora.bench.dry_run import Unfetched, forecast
from calora.bench.grid import Grid
from calora.bench.recipe import Recipe, read_recipe
from calora.bench.rows import Choice, rows_of
from calora.bench.store import Store
from calora.errors import CaloraError
from calora.storage import write_text

RECIPES = Path(__file__).parents[2] / "recipes"
STUDIES = sorted(path.stem for path in (RECIPES / "studies").glob("*.yaml"))


def recipe_of(**more: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "backbones": ["smollm2-135m"],
            "compositions": ["summary+es", "summary+fr"],
            "approaches": ["zero-shot", "multi-step", "calibration"],
            "adapter": {"learning_rate": 1e-3, "epochs": 2},
            "calibration": {"learning_rate": 1e-3, "epochs": 3},
            "data": {"train": 80},
        }
        | more
    )


def test_what_is_trained_is_counted_once(tmp_path: Path) -> None:
    found = forecast(recipe_of(), tmp_path / "run", Store(tmp_path / "store"))
    assert found.cells == (6, 0)
    assert {kind: (work.wanted, work.updates) for kind, work in found.work.items()} == {
        "adapter": (3, 2 * (10 + 20 + 20)),  # a secondary one learns from summaries and replies
        "calibration": (2, 2 * 3 * 10),
    }
    assert (found.fetched, found.unknown) == ([], [])
    assert 0.5 < found.memory["smollm2-135m"] < 4
    assert found.stored == pytest.approx(3 * 2 * 9_768_960 / 1e9)


def test_what_is_there_needs_no_training_and_what_changed_is_not_there(tmp_path: Path) -> None:
    study = RECIPES.parent / "results/studies/kind"
    shutil.copytree(study / "cells", tmp_path / "run/cells")
    recipe = read_recipe(RECIPES / "studies/kind.yaml")
    found = forecast(recipe, tmp_path / "run", Store(tmp_path / "store"))
    assert (found.cells, found.work) == ((7, 7), {})
    changed = recipe.model_copy(update={"max_tokens": 48})
    assert forecast(changed, tmp_path / "run", Store(tmp_path / "store")).cells == (7, 0)


def test_a_packed_backbone_is_as_the_plain_one(tmp_path: Path) -> None:
    found = forecast(recipe_of(backbones=["smollm2-135m:4bit"]), tmp_path / "run", Store(tmp_path / "store"))
    assert (found.fetched, found.unknown) == ([], [])


def test_a_row_that_would_fail_is_told_and_the_others_are_counted(tmp_path: Path) -> None:
    rows = ["multi-step", {"name": "adapter-of", "options": {"place": 2}}]
    found = forecast(recipe_of(approaches=rows), tmp_path / "run", Store(tmp_path / "store"))
    assert found.work["adapter"].wanted == 3
    assert found.unknown[0] == "adapter-of on summary+es: summary+es has no task at place 2"


def test_a_search_is_counted_with_its_candidates(tmp_path: Path) -> None:
    row = [{"name": "calibration", "settings": ["tuned"]}]
    recipe = recipe_of(approaches=row, search={"budget": 4, "compositions": ["summary+es"]})
    found = forecast(recipe, tmp_path / "run", Store(tmp_path / "store"))
    assert found.work["calibration"].wanted == 4 + 1  # four candidates on one composition; the other's own


def test_a_search_that_was_made_is_not_counted_again(tmp_path: Path) -> None:
    rows = [{"name": "calibration", "settings": ["paper", "tuned"]}]
    recipe = recipe_of(approaches=rows, search={"budget": 4, "compositions": ["summary+es"]})
    run, store = tmp_path / "run", Store(tmp_path / "store")
    tuned = next(row for row in rows_of(recipe) if row.setting == "tuned")
    search = Grid(recipe, run, store, place=Unfetched(recipe)).search(tuned, recipe.backbones[0])
    chosen = Choice(approach="calibration", options=dict(search.candidates[-1]), tried=[], key=search.key)
    write_text(search.path, chosen.model_dump_json())
    assert forecast(recipe, run, store).work["calibration"].wanted == 2 + 2  # the paper's and the chosen one


def test_what_is_not_here_is_named_and_not_fetched(tmp_path: Path) -> None:
    data = {"records": ["nowhere/records.jsonl"], "train": 8, "outside": {"es": "nowhere/pairs.jsonl"}}
    recipe = recipe_of(backbones=["Qwen/Qwen2.5-0.5B", "someone/something"], data=data)
    found = forecast(recipe, tmp_path / "run", Store(tmp_path / "store"))
    assert [what for what, _ in found.fetched] == [
        "backbone Qwen/Qwen2.5-0.5B from the hub",
        "backbone someone/something from the hub",
        "nowhere/records.jsonl, by calora compose-data",
        "nowhere/pairs.jsonl, by calora compose-data",
    ]
    assert found.fetched[0][1] == pytest.approx(0.99, abs=0.01)
    assert found.unknown == ["what someone/something costs: calora does not know its size"]
    with pytest.raises(CaloraError, match=r"data\.records: nowhere/records\.jsonl is no file"):
        recipe.data.check_files()


def test_a_shared_calibration_learns_from_every_member(tmp_path: Path) -> None:
    recipe = recipe_of(compositions=["summary+es"], approaches=["calibration-shared"])
    found = forecast(recipe, tmp_path / "run", Store(tmp_path / "store"))
    work = found.work["calibration"]
    assert (work.wanted, work.updates) == (1, 3 * 3 * 10)  # es, fr and de


def test_each_learns_from_its_own_examples(tmp_path: Path) -> None:
    few = {"name": "calibration-few", "options": {"examples": 16}}
    for row, kind, updates in ((few, "calibration", 3 * 2), ("dam", "dam", 10 + 20)):  # DAM from each task's, once
        found = forecast(
            recipe_of(compositions=["summary+es"], approaches=[row]), tmp_path / "run", Store(tmp_path / "store")
        )
        assert (found.work[kind].wanted, found.work[kind].updates) == (1, updates)


@pytest.mark.parametrize("name", ["paper", "merges", "seeds", "small", *(f"studies/{kind}" for kind in STUDIES)])
def test_our_own_recipes_can_be_planned(name: str, tmp_path: Path) -> None:
    found = forecast(read_recipe(RECIPES / f"{name}.yaml"), tmp_path / "run", Store(tmp_path / "store"))
    assert found.cells[0] > 0
    assert found.unknown == []


def test_a_composition_that_an_approach_cannot_do_is_told(tmp_path: Path) -> None:
    recipe = recipe_of(compositions=["summary+casual+es"], approaches=["calibration-shared"])
    found = forecast(recipe, tmp_path / "run", Store(tmp_path / "store"))
    assert found.unknown == [
        "calibration-shared on summary+casual+es: summary+casual+es is not of a primary and one secondary task"
    ]


@pytest.mark.parametrize("path", sorted((RECIPES / "paper-scale").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_at_the_papers_scale_can_be_planned(path: Path, tmp_path: Path) -> None:
    found = forecast(read_recipe(path), tmp_path / "run", Store(tmp_path / "store"))
    assert found.cells[0] == 294
    assert found.unknown == []
    assert found.work["adapter"].wanted == 9
    assert found.work["joint-expert"].wanted == 14
