"""Every recipe that is shipped reads, and says what it would do, before anybody spends hours on it."""

from pathlib import Path

import pytest

from calora.bench.dry_run import Unfetched
from calora.bench.grid import Grid
from calora.bench.recipe import read_recipe
from calora.bench.store import Store
from calora.corpus.compose_recipe import read_compose_recipe

ROOT = Path(__file__).parents[1] / "recipes"
DATA = sorted((ROOT / "data").glob("*.yaml"))
# Those at the paper's scale name models and files that are not here; tests/bench/test_dry_run.py plans them.
RECIPES = sorted(set(ROOT.rglob("*.yaml")) - {*DATA, *(ROOT / "paper-scale").glob("*.yaml")})


def test_there_are_recipes() -> None:
    assert {"small", "paper", "merges", "seeds", "candidate"} <= {path.stem for path in RECIPES}
    assert DATA


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_plans_every_cell(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    grid = Grid(recipe, tmp_path, Store(tmp_path / "store"), place=Unfetched(recipe))
    places = grid.places()
    assert len({place.name for place in places}) == len(places)
    for place in places:
        plan = place.row.approach.plan(place.case, **place.row.recipe.options)
        assert all(len(step.key) == 16 for parent in plan.parents for step in parent.lineage())
    assert not any(tmp_path.iterdir()), "planning wrote something"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_its_command_at_the_top(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("\ncompositions")[0]
    assert (
        f"calora bench recipes/{path.relative_to(ROOT).as_posix()} --run results/" in head
        and "--store runs/store" in head
    )


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_a_recipe_of_data_reads(path: Path) -> None:
    read_compose_recipe(path)
    script = (ROOT / "paper-scale/data.sh").read_text(encoding="utf-8")
    head = path.read_text(encoding="utf-8").partition("\nsource")[0]
    assert f"calora compose-data recipes/data/{path.name}" in head or path.stem in script
