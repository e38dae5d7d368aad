"""The recipe of a benchmark: what to compare, on what, and how much may be searched."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from calora.errors import CaloraError
from calora.metrics.language import check_language
from calora.storage import read_recipe_file
from calora.tasks import TASKS, Composition, Metric, Role, Task
from calora.training.settings import TrainingSettings

CONTROL = "control:"  # what the title of a row begins with that is no approach

Setting = Literal["paper", "tuned"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskRecipe(_Part):
    """A task of one's own.

    Args:
        role: `primary` reads the dialogue, `tone` and `language` rewrite a text.
        instruction: The request when the task stands alone.
        then: The same request when it follows another task.
        label: What the answer is called.
        field: Where the records hold its references; the task's name if left out.
        metric: By which its answers are ranked beside retrieval.
        language: Two-letter code of a language task's language; the task's name if left out.
    """

    role: Role
    instruction: str
    then: str
    label: str
    field: str | None = None
    metric: Metric = "rougeL"
    language: str | None = None


class ApproachRecipe(_Part):
    """An approach with its settings.

    Args:
        name: Of a registered approach.
        label: Of its rows, so that one approach can stand in several; the name if left out.
        title: In tables; the approach's own, or the label, if left out.
        settings: `paper` takes the published values, `tuned` those that the search chose; a row each.
        options: Instead of the approach's own values; what is given here is not searched.
        compositions: Instead of the recipe's.
        seeds: Instead of the recipe's.
    """

    name: str
    label: str | None = None
    title: str | None = None
    settings: tuple[Setting, ...] = ("paper",)
    options: dict[str, Any] = {}
    compositions: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None

    def label_of(self, setting: Setting) -> str:
        """The label of a row, with the setting where it is not the paper's."""
        return (self.label or self.name) + (" (tuned)" if setting == "tuned" else "")

    def title_of(self, setting: Setting, own: str = "") -> str:
        """The title of a row; `own` is the approach's, where the recipe gives none. A control stays one."""
        title = self.title or self.label or own
        if own.startswith(CONTROL) and not title.startswith(CONTROL):
            title = f"{CONTROL} {title}"
        return title + (", tuned" if setting == "tuned" else "")


class SearchRecipe(_Part):
    """What every approach may try before its tuned row.

    Args:
        budget: The most candidates an approach may try.
        compositions: On which they are tried; what is best in the mean is fixed for all compositions.
    """

    budget: int = Field(default=4, ge=1)
    compositions: tuple[str, ...]


class DataRecipe(_Part):
    """Which records; None takes all of a split.

    Args:
        records: JSON Lines files of `OwnRecord` or `TextRecord`, one or several; the Everyday corpus if left out. A
            composition takes those that have references for it.
        tested_on: Files whose test split is answered instead: another domain, for what was learnt on `records`.
        train: How many of the training split, spread over its domains.
        validation: Of the validation split.
        test: Of the test split.
        outside: Task to a file of pairs or of `TextRecord` that its adapter learns from instead of the records: an
            adapter trained in another domain, as the paper's are. Of pairs a tenth is held out; records have splits.
    """

    records: tuple[Path, ...] = ()
    tested_on: tuple[Path, ...] = ()
    train: int | None = Field(default=None, ge=1)
    validation: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    outside: dict[str, Path] = {}

    def check_files(self) -> None:
        """Refuse files that are not there.

        Raises:
            CaloraError: Names the first.
        """
        outside = {f"outside.{task}": (path,) for task, path in self.outside.items()}
        for where, paths in {"records": self.records, "tested_on": self.tested_on, **outside}.items():
            for path in paths:
                if not path.is_file():
                    raise CaloraError(f"data.{where}: {path} is no file", "mend the recipe, or make it (docs/data.md)")

    @field_validator("records", "tested_on", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value or ()


class Recipe(_Part):
    """A grid of cells: every approach on every composition with every backbone and seed.

    Args:
        backbones: As for `Backbone.load`.
        seeds: Of training.
        compositions: Such as `summary+es`.
        approaches: Each by name, or with settings.
        adapter: How single-task adapters and joint experts are trained.
        calibration: How calibrations are trained, but for what an approach sets itself.
        search: Needed for tuned rows.
        data: Which records.
        tasks: Tasks of one's own by name.
        max_tokens: The most tokens of one pass.
        engine: What answers the cells: torch, or vLLM on a GPU, where every pass has an adapter or none.
    """

    backbones: tuple[str, ...] = ("gemma3-270m",)
    seeds: tuple[int, ...] = (0,)
    compositions: tuple[str, ...]
    approaches: tuple[ApproachRecipe, ...]
    adapter: TrainingSettings = TrainingSettings(learning_rate=2e-4, epochs=4)
    calibration: TrainingSettings = TrainingSettings(learning_rate=5e-4, epochs=4)
    search: SearchRecipe | None = None
    data: DataRecipe = DataRecipe()
    tasks: dict[str, TaskRecipe] = {}
    max_tokens: int = Field(default=96, ge=1)
    engine: Literal["torch", "vllm"] = "torch"

    @model_validator(mode="before")
    @classmethod
    def _names_stand_for_approaches(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("approaches"), list | tuple):
            given = [{"name": item} if isinstance(item, str) else item for item in values["approaches"]]
            return values | {"approaches": given}
        return values

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if any("tuned" in approach.settings for approach in self.approaches) and self.search is None:
            raise ValueError("a tuned row needs `search` with the compositions to search on")
        for key, training in {"adapter": self.adapter, "calibration": self.calibration}.items():
            if training.seed:
                raise ValueError(f"`seed` of `{key}` would be ignored: every training has those of `seeds` in turn")
        labels = [one.label_of(setting) for one in self.approaches for setting in one.settings]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two approaches are labelled {', '.join(twice)}: give one of them a `label`")
        return self

    @property
    def main_approaches(self) -> list[ApproachRecipe]:
        """Those of the main table: what is asked of single tasks alone is not in it."""
        return [
            row
            for row in self.approaches
            if any("+" in composition for composition in row.compositions or self.compositions)
        ]

    def known_tasks(self) -> dict[str, Task]:
        """The tasks of calora and those of the recipe, by name."""
        own = {name: Task(name=name, **task.model_dump()) for name, task in self.tasks.items()}
        return TASKS | own

    def parse(self, composition: str) -> Composition:
        """Read a composition of these tasks.

        Raises:
            CaloraError: A task is unknown, comes twice or stands in the wrong place.
        """
        return Composition.parse(composition, self.known_tasks())


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe in YAML.

    Raises:
        CaloraError: The file is missing, is not YAML, or has unknown, missing or wrong keys.
    """
    path = Path(path)
    recipe = read_recipe_file(path, Recipe)
    for row in recipe.approaches:
        if (row.label or "").startswith("own-"):  # by which a report knows the run of a demo
            raise CaloraError(f"recipe {path}: the label {row.label} is the demo's", "let it begin with another word")
    searched = recipe.search.compositions if recipe.search else ()
    for composition in {*recipe.compositions, *searched, *(c for a in recipe.approaches for c in a.compositions or ())}:
        check_language(recipe.parse(composition).language)
    for task in recipe.data.outside:
        recipe.parse(task)
    return recipe
