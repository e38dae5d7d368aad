"""A merge as a file, in mergekit's vocabulary: models, parameters over layers and modules, a method."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from calora.adapter import Adapter, Factors, layer_of
from calora.errors import CaloraError
from calora.merging.apply import merge_measured, part_of
from calora.merging.conventions import Preset, find_convention
from calora.merging.dense import DenseUpdate
from calora.merging.inputs import check_parents, modules
from calora.merging.registry import find_merge_method
from calora.storage import read_recipe_file

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def plain_number(value: Any) -> Any:
    """A number where a text is one: YAML takes `1e-1` for a word, since it has no point."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


Scalar = Annotated[bool | int | float | str, BeforeValidator(plain_number)]
Along = Annotated[tuple[float, ...], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Filtered(_Strict):
    """A value for the modules whose name contains `filter`; for all that are left without it, or with `*`."""

    value: Scalar | Along
    filter: str | None = None


Setting = Scalar | Annotated[tuple[Filtered, ...], Field(min_length=1)] | Along


class ModelEntry(_Strict):
    """An adapter, and what is set for it alone.

    Args:
        model: Its folder, or a hub id; mergekit's `base+adapter` names the same adapter.
        parameters: `weight`, `density`: a number, numbers along the layers, or numbers by filters.
        sha256: Of its tensors; refused if it has changed.
    """

    model: str
    parameters: dict[str, Setting] = {}
    sha256: str | None = None


class MergeRecipe(_Strict):
    """How adapters become one.

    Args:
        merge_method: A name of `calora merge --list`, or the preset's.
        models: The adapters.
        preset: Whose names and defaults are meant; calora's if None.
        base_model: For the card: what the result is for.
        parameters: For all adapters; those of an adapter come first. `lambda` scales the result.
        dtype: Of the tensors that are written.
        rank: What the result is cut to.
        energy: Instead, the least share of each update's squared norm that is left.
    """

    merge_method: str
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    preset: Preset | None = None
    base_model: str | None = None
    parameters: dict[str, Setting] = {}
    dtype: Literal["float32", "float16", "bfloat16"] = "bfloat16"
    rank: int | None = Field(default=None, ge=1)
    energy: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _is_clear(self) -> "MergeRecipe":
        if self.rank is not None and self.energy is not None:
            raise ValueError("give `rank` or `energy`, not both")
        for key in sorted(_AT_THE_TOP & set(self.parameters)):
            raise ValueError(f"`{key}` does not stand in `parameters` but beside it")
        for entry in self.models:
            for key in sorted(set(entry.parameters) - set(_OF_EACH)):
                raise ValueError(f"{entry.model}: `{key}` is no parameter of each, which are {', '.join(_OF_EACH)}")
            if entry.model == self.base_model and (self.merge_method, self.preset) != ("slerp", "mergekit"):
                raise ValueError(f"{entry.model} is the base model, which has no update: leave it out of `models`")
        return self


_OF_EACH = ("weight", "density")
_AT_THE_TOP = {"rank", "energy", "preset", "method", "strengths", "adapters"}


def read_merge_recipe(path: str | Path) -> MergeRecipe:
    """Read a recipe in YAML. An adapter's folder is looked for beside the recipe first, then from where one is.

    Raises:
        CaloraError: The file is missing, is not YAML, or has unknown, missing or wrong keys.
    """
    recipe = read_recipe_file(Path(path), MergeRecipe)
    find_convention(recipe.merge_method, recipe.preset)

    def found(name: str) -> str:
        places = [Path(path).parent / part for part in (name, name.rpartition("+")[2])]  # mergekit's base+adapter
        return next((str(place) for place in places if place.is_dir()), name)

    models = tuple(one.model_copy(update={"model": found(one.model)}) for one in recipe.models)
    base = recipe.base_model and found(recipe.base_model)
    same = next((one.model for one in models if base and Path(one.model).resolve() == Path(base).resolve()), None)
    return recipe.model_copy(update={"models": models, "base_model": same or recipe.base_model})


def without_a_base_among_models(recipe: MergeRecipe) -> MergeRecipe:
    """The same recipe where mergekit's SLERP has one of its two models as its base, from which it goes to the other.

    Ours goes from the first to the second.
    """
    if recipe.base_model not in [entry.model for entry in recipe.models]:
        return recipe
    parameters = dict(recipe.parameters)
    if "t" in parameters and recipe.base_model != recipe.models[0].model:
        parameters["t"] = _reversed(parameters["t"])
    return recipe.model_copy(update={"parameters": parameters, "base_model": None})


def _reversed(setting: Any) -> Any:
    """1 - t, of a number, numbers along the layers or numbers by filters."""
    if isinstance(setting, Filtered):
        return setting.model_copy(update={"value": _reversed(setting.value)})
    if isinstance(setting, tuple):
        return tuple(map(_reversed, setting))
    return 1 - setting if isinstance(setting, int | float) else setting


def merge_by_recipe(recipe: MergeRecipe, adapters: Sequence[Adapter]) -> tuple[Adapter | DenseUpdate, dict[str, float]]:
    """Merge as a recipe says.

    Modules with the same settings are merged together, so that a rule over whole adapters needs settings that are the
    same everywhere.

    Args:
        recipe: The recipe.
        adapters: Those of its models, in order.

    Returns:
        The merge, and the relative error of each module that was cut.

    Raises:
        CaloraError: The adapters do not fit each other, or a setting is no parameter of the method.
    """
    check_parents(adapters)
    recipe = without_a_base_among_models(recipe)
    names = modules(adapters)
    settings = {module: _settings(recipe, module, _depth(module, names)) for module in names}
    groups: dict[str, list[str]] = {}
    for module in names:
        groups.setdefault(repr(settings[module]), []).append(module)
    parts: dict[str, Any] = {}
    errors: dict[str, float] = {}
    for members in groups.values():
        strengths, parameters, scale = settings[members[0]]
        if len(groups) > 1:
            _check_scope(recipe, parameters)
        merged, lost = merge_measured(
            adapters if len(groups) == 1 else part_of(adapters, members),
            recipe.merge_method,
            strengths,
            preset=recipe.preset,
            rank=recipe.rank,
            energy=recipe.energy,
            **parameters,
        )
        for module, part in merged.modules.items():
            parts[module] = part.scaled(scale) if isinstance(part, Factors) else scale * part
        errors.update(lost)
    parts = {module: parts[module] for module in names}
    whole = {isinstance(part, Factors) for part in parts.values()}
    if len(whole) > 1:
        raise CaloraError("some modules get an update of full rank, others not", "set one `over` for all, or a rank")
    return (Adapter(parts) if whole == {True} else DenseUpdate(parts)), errors


def full_rank(recipe: MergeRecipe, adapters: Sequence[Adapter]) -> bool:
    """Whether the result will have full rank and is not cut: one module tells."""
    first = part_of(adapters, modules(adapters)[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the merge itself will tell
        return isinstance(merge_by_recipe(recipe, first)[0], DenseUpdate)


def _settings(recipe: MergeRecipe, module: str, depth: float) -> tuple[list[float] | None, dict[str, Any], float]:
    """Strengths, the method's parameters and the result's scale for one module."""

    def of(entry: ModelEntry, key: str) -> Any:
        found = _value(entry.parameters.get(key), module, depth)
        return found if found is not None else _value(recipe.parameters.get(key), module, depth)

    weights = [of(entry, "weight") for entry in recipe.models]
    if None in weights and ("weight" in recipe.parameters or any("weight" in one.parameters for one in recipe.models)):
        raise CaloraError(
            f"{module}: no weight is given for {recipe.models[weights.index(None)].model}, others are",
            "give each adapter one, or one for all in `parameters`; a value without a filter is for all that is left",
        )
    parameters = {key: _value(setting, module, depth) for key, setting in recipe.parameters.items()}
    parameters = {key: value for key, value in parameters.items() if value is not None and key != "weight"}
    if any("density" in entry.parameters for entry in recipe.models):
        densities = [of(entry, "density") for entry in recipe.models]
        default = _chosen(recipe, {}).get("density")
        parameters["density"] = tuple(default if density is None else density for density in densities)
    scale = number("lambda", parameters.pop("lambda", 1.0))
    return (None if weights[0] is None else [number("weight", weight) for weight in weights]), parameters, scale


def number(key: str, value: Any) -> float:
    """A setting that is a number.

    Raises:
        CaloraError: It is none.
    """
    found = plain_number(value)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise CaloraError(f"{key} = {value!r}", "expected a number")
    return float(found)


def _chosen(recipe: MergeRecipe, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of the method: as given, else as its preset has it, else its default."""
    convention = find_convention(recipe.merge_method, recipe.preset)
    return {**find_merge_method(convention.method).defaults, **convention.parameters, **parameters}


def _value(setting: Any, module: str, depth: float) -> Any:
    """A setting's value for one module: along the layers it is interpolated, as mergekit does.

    The last layer is the adapters' last one, which need not be the backbone's, as it is in mergekit: how many the
    backbone has is known to nobody here.

    Args:
        setting: As a recipe has it.
        module: The module's name.
        depth: 0 at the first layer, 1 at the last.
    """
    if not isinstance(setting, tuple):
        return setting
    if setting and isinstance(setting[0], Filtered):
        for one in setting:
            if one.filter in (None, "*") or one.filter in module:
                return _value(one.value, module, depth)
        return None
    place = depth * (len(setting) - 1)
    low = min(int(place), len(setting) - 1)
    high = min(low + 1, len(setting) - 1)
    return (1 - (place - low)) * setting[low] + (place - low) * setting[high]


def _depth(module: str, names: Sequence[str]) -> float:
    """Where a module's layer lies between the first (0) and the last (1)."""
    last = max((layer_of(name) or 0 for name in names), default=0)
    return (layer_of(module) or 0) / last if last else 0.0


def _check_scope(recipe: MergeRecipe, parameters: Mapping[str, Any]) -> None:
    """Refuse settings that differ between modules where a rule looks at whole adapters.

    Raises:
        CaloraError: It does.
    """
    if _chosen(recipe, parameters).get("scope") == "adapter":
        raise CaloraError(
            f"{recipe.merge_method} looks at whole adapters, and its settings differ between modules",
            "set `scope: module`, or the same everywhere",
        )
