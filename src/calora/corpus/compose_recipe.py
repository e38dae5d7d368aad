"""What `calora compose-data` is told: which texts, and what is made of their references."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, model_validator

from calora.corpus.filters import FilterRecipe
from calora.corpus.records import Split
from calora.corpus.teachers import Teacher
from calora.storage import read_recipe_file


class TargetRecipe(BaseModel, extra="forbid", frozen=True):
    """What is made of every reference, under one key.

    Args:
        by: The teacher.
        language: Two-letter code of what it writes; the key if that is one, else `en`.
    """

    by: Teacher
    language: str | None = None


class ComposeRecipe(BaseModel, extra="forbid", frozen=True):
    """Which texts, and what is made of their references.

    Args:
        source: Of the registry; or
        files: one's own, a file a split, with
        columns: as for `open_plain`.
        folder: Where the source's files lie; if left out the hub, or the package for what comes with it.
        splits: Of the source; all that it has if left out.
        limit: The most records of a split.
        deal: Deal the records of all splits anew: shares of 1, such as {train: 0.8, validation: 0.1, test: 0.1}.
        name: Put in front of every id, so that files of several recipes can be taken together.
        fields: Whose references are taken; all if left out.
        targets: Key (`es`, `casual`) to what makes it; none to write the source's own references alone.
        filters: Which answers are left out.
        batch: References that a teacher is given at once.
    """

    source: str | None = None
    files: dict[Split, Path] = {}
    columns: dict[str, str] = {}
    folder: Path | None = None
    splits: tuple[Split, ...] | None = None
    limit: int | None = Field(default=None, ge=1)
    deal: dict[Split, float] | None = None
    name: str | None = None
    fields: tuple[str, ...] | None = None
    targets: dict[str, TargetRecipe] = {}
    filters: FilterRecipe = FilterRecipe()
    batch: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if (self.source is None) == (not self.files):
            raise ValueError("give either `source` or `files` with `columns`")
        if self.deal is not None and abs(sum(self.deal.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of `deal` add up to {sum(self.deal.values()):g}, not to 1")
        return self

    def language_of(self, key: str) -> str:
        """The language that a key's targets are in."""
        return self.targets[key].language or (key if len(key) == 2 else "en")


def read_compose_recipe(path: str | Path) -> ComposeRecipe:
    """Read a recipe in YAML.

    Raises:
        CaloraError: The file is missing, is not YAML, or has unknown, missing or wrong keys.
    """
    return read_recipe_file(Path(path), ComposeRecipe)
