"""The rows of a benchmark and their cells: approaches, their settings, what each may try, and what was chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from calora.approaches.registry import Approach, find_approach
from calora.bench.case import Case, Workplace
from calora.bench.cells import backbone_label, cell_stem
from calora.bench.recipe import ApproachRecipe, Recipe, Setting
from calora.errors import CaloraError
from calora.storage import fingerprint, slug
from calora.tasks import Composition


@dataclass(frozen=True)
class Row:
    """One row of the results: an approach under a label with one setting.

    Args:
        approach: What is registered.
        recipe: As the recipe has it.
        setting: `paper` or `tuned`.
    """

    approach: Approach
    recipe: ApproachRecipe
    setting: Setting

    @property
    def label(self) -> str:
        """The label, with the setting where it is not the paper's."""
        return self.recipe.label_of(self.setting)

    @property
    def title(self) -> str:
        """For tables."""
        return self.recipe.title_of(self.setting, self.approach.title)


@dataclass(frozen=True)
class Place:
    """Where a cell stands in the grid."""

    row: Row
    case: Case

    @property
    def name(self) -> str:
        """The name of its files."""
        case = self.case
        return cell_stem(str(case.composition), self.row.label, case.backbone_name, case.seed)


class Trial(BaseModel):
    """A candidate of a search, with its mean validation scores in percent; 0 of one that failed, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    options: dict[str, Any]
    retrieval: float = 0.0
    rouge: float = 0.0
    failed: str | None = None


class Choice(BaseModel):
    """What the search of a tuned row chose.

    Args:
        approach: Its name.
        options: The candidate with the highest mean validation retrieval; ROUGE breaks ties.
        tried: Every candidate.
        key: Fingerprint of all that it depends on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    approach: str
    options: dict[str, Any]
    tried: list[Trial]
    key: str


def choice_file(run: Path, label: str, backbone: str) -> Path:
    """Where the choice for a row and a backbone lies.

    Args:
        run: The run folder.
        label: Of the tuned row.
        backbone: As for `Backbone.load`.
    """
    return run / "choices" / f"{slug(label)}--{backbone_label(backbone)}.json"


def rows_of(recipe: Recipe) -> list[Row]:
    """The rows of a recipe, their options checked before any work is done.

    Raises:
        CaloraError: An unknown approach or option, or a search that is over the budget.
    """
    rows = []
    for one in recipe.approaches:
        found = find_approach(one.name)
        own = one.model_copy(update={"options": found.checked(one.options)})
        rows += [Row(found, own, setting) for setting in one.settings]
    for row in rows:
        if row.setting == "tuned" and recipe.search is not None:
            candidates_of(row, recipe.search.budget)
    return rows


def places_of(workplace: Workplace, rows: Sequence[Row]) -> list[Place]:
    """Every cell of a grid, those of one backbone, seed and composition together.

    Single tasks come before the first composition that has them, while their adapters are there.

    Args:
        workplace: With the recipe.
        rows: Of the recipe.
    """
    recipe = workplace.recipe
    turns = _turns([recipe.parse(name) for name in compositions_of(recipe)])
    places = [
        Place(row, Case(workplace, backbone, recipe.parse(name), seed))
        for row in rows
        for backbone in recipe.backbones
        for seed in row.recipe.seeds or recipe.seeds
        for name in row.recipe.compositions or recipe.compositions
    ]
    return sorted(
        places,
        key=lambda place: (
            recipe.backbones.index(place.case.backbone_name),
            place.case.seed,
            turns[str(place.case.composition)],
        ),
    )


def compositions_of(recipe: Recipe) -> list[str]:
    """The recipe's compositions, and what single rows have beside them."""
    own = [name for row in recipe.approaches for name in row.compositions or ()]
    return list(dict.fromkeys([*recipe.compositions, *own]))


def _turns(compositions: Sequence[Composition]) -> dict[str, tuple[int, int, int]]:
    """When each composition has its turn: as they stand, but for single tasks."""

    def first_with(composition: Composition) -> int:
        tasks = set(composition.tasks)
        return next(index for index, other in enumerate(compositions) if tasks <= set(other.tasks))

    return {
        str(composition): (
            first_with(composition) if len(composition.tasks) == 1 else index,
            len(composition.tasks),
            index,
        )
        for index, composition in enumerate(compositions)
    }


def candidates_of(row: Row, budget: int) -> list[dict[str, Any]]:
    """What a tuned row may try: the approach's candidates that agree with what the recipe pins.

    Where none agrees, the pinned options replace those of every candidate.

    Raises:
        CaloraError: There are none, or more than the budget allows.
    """
    pinned = row.recipe.options
    agreeing = [
        one for one in row.approach.search if all(one.get(key, value) == value for key, value in pinned.items())
    ]
    given = [{**candidate, **pinned} for candidate in agreeing or row.approach.search]
    distinct = list({fingerprint(options): options for options in given}.values())
    if not distinct:
        raise CaloraError(f"approach {row.approach.name} has nothing to search", "leave out its tuned setting")
    if len(distinct) > budget:
        raise CaloraError(
            f"approach {row.approach.name} would try {len(distinct)} candidates, the budget is {budget}",
            "raise search.budget for all approaches, or pin some of its options",
        )
    return distinct
