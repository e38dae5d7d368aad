"""What stands beside a merged adapter: the recipe that makes it again, and a model card."""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from calora import __version__
from calora.adapter import Adapter, AdapterCard, adapter_sha256, base_model_of, read_adapter, write_adapter
from calora.embedded import EMBEDDED
from calora.errors import CaloraError
from calora.merging.conventions import find_convention
from calora.merging.recipe import MergeRecipe, without_a_base_among_models
from calora.merging.registry import find_merge_method
from calora.storage import write_text
from calora.tasks import Composition

if TYPE_CHECKING:
    from calora.backbone import Backbone

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@.+)?")


def adapter_folder(reference: str) -> Path:
    """The folder of an adapter: a local one, a hub id, or the second half of mergekit's `base+adapter`.

    What is neither there nor of a hub id's form, `owner/name`, comes back as a folder: reading it tells what is wrong.

    Raises:
        CaloraError: There is no such folder, and the hub does not give it.
    """
    second = reference.rpartition("+")[2]
    hub_id = _hub_id(reference)
    if hub_id is None:
        return Path(second if Path(second).exists() and not Path(reference).exists() else reference)
    name, _, revision = hub_id.partition("@")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise CaloraError(f"adapter {reference!r} is no folder", "expected one with adapter_config.json") from error
    try:
        files = ["adapter_config.json", "adapter_model.safetensors", "calora.json"]
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=files))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CaloraError(
            f"adapter {reference!r} is no folder, and the hub does not give it: {str(error).splitlines()[0]}",
            "expected a folder with adapter_config.json",
        ) from error


def adapter_name(reference: str) -> str:
    """What an adapter is called that has no card: by its folder's name, or by its hub id."""
    return _hub_id(reference) or Path(reference).name


def _hub_id(reference: str) -> str | None:
    """The hub id that a reference is, or has as its second half; None for a folder and what is of no such form."""
    second = reference.rpartition("+")[2]
    here = Path(reference).exists() or Path(second).exists()
    return second if not here and _HUB_ID.fullmatch(second) else None


def read_models(recipe: MergeRecipe) -> tuple[list[Adapter], MergeRecipe]:
    """The adapters of a recipe, and the recipe with their folders' SHA-256 and the base model that they name.

    Raises:
        CaloraError: One cannot be read, or is not the one the recipe was written for.
    """
    recipe = without_a_base_among_models(recipe)
    adapters, entries, bases = [], [], dict[str, None]()
    for entry in recipe.models:
        folder = adapter_folder(entry.model)
        adapters.append(read_adapter(folder))
        found = adapter_sha256(folder)
        if entry.sha256 not in (None, found):
            raise CaloraError(
                f"{entry.model} is not the adapter of this recipe: its tensors have another SHA-256",
                "take that one, or leave out `sha256`",
            )
        entries.append(entry.model_copy(update={"sha256": found}))
        if base := base_model_of(folder):
            bases[base] = None
    if len(bases) > 1 and any(adapter.card is None for adapter in adapters):  # cards tell by SHA-256
        warnings.warn(f"the adapters were trained on different base models: {', '.join(bases)}", stacklevel=2)
    base = recipe.base_model or (next(iter(bases)) if len(bases) == 1 else None)
    return adapters, recipe.model_copy(update={"models": tuple(entries), "base_model": base})


def write_merged(
    merged: Adapter,
    out: str | Path,
    recipe: MergeRecipe,
    parents: Sequence[Adapter],
    errors: Mapping[str, float],
    *,
    name: str,
    asked: "tuple[Backbone, Composition] | None" = None,
) -> None:
    """Write a merged adapter with its card, `merge.yaml`, which makes it again, and a model card for people.

    Args:
        merged: The adapter.
        out: Its folder, replaced whole.
        recipe: As it was read, with the parents' SHA-256.
        parents: The adapters it is made of.
        errors: The relative error of each module that was cut.
        name: On its card.
        asked: The backbone, and the composition that it is asked for; None for one that is only a part of something.
            Without it and without a card of a parent there is no card: PEFT's files do not say a backbone's SHA-256.

    Raises:
        CaloraError: The place cannot be written.
    """
    first = next((parent.card for parent in parents if parent.card), None)
    values = _resolved(recipe, Path(out))
    names = parent_names([entry.model for entry in recipe.models], parents)
    shas = dict(zip(names, (str(entry.sha256) for entry in recipe.models), strict=True))
    origin: tuple[str, str] | None = None
    if asked:
        origin = asked[0].name, asked[0].sha256
    elif first:
        origin = first.backbone, first.backbone_sha256
    if origin:
        card = AdapterCard(
            name=name,
            backbone=origin[0],
            backbone_sha256=origin[1],
            prompt=asked[0].prompt(asked[1]) if asked else None,
            parents=shas,
            training={"merge": values},
            added=0,
        )
        merged = merged.with_card(card)
    write_adapter(merged, out, recipe.dtype, recipe.base_model)
    head = f"# calora {__version__}: calora merge merge.yaml OUT\n"
    write_text(Path(out) / "merge.yaml", head + yaml.safe_dump(values, sort_keys=False))
    write_text(Path(out) / "README.md", _readme(merged, recipe, shas, errors, name))


def _resolved(recipe: MergeRecipe, out: Path) -> dict[str, Any]:
    """A recipe's values with every parameter of the method, and with folders as they lie from where it is written."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    if recipe.preset is None:  # a preset's own values are the tool's, and not ours to change
        of_each = {key for entry in recipe.models for key in entry.parameters}
        own = find_merge_method(recipe.merge_method).defaults
        defaults = {key: value for key, value in own.items() if value is not None and key not in of_each}
        values["parameters"] = {**defaults, **values["parameters"]}
    for entry in values["models"]:
        hub_id = _hub_id(entry["model"])
        entry["model"] = hub_id or Path(os.path.relpath(adapter_folder(entry["model"]), out)).as_posix()
    return values


def parent_names(references: Sequence[str], parents: Sequence[Adapter]) -> list[str]:
    """What parents are called: by their cards, else by their folders or hub ids, else by their places as well.

    Args:
        references: As they were given: folders, hub ids.
        parents: The adapters there.

    Raises:
        CaloraError: One is given twice.
    """
    names: list[str] = []
    for place, (reference, parent) in enumerate(zip(references, parents, strict=True)):
        if Path(reference).resolve() in [Path(other).resolve() for other in references[:place]]:
            raise CaloraError(f"{reference} is given twice", "give each adapter once")
        own = parent.card.name if parent.card else adapter_name(reference)
        other = (adapter_name(reference), reference, f"{own}-{place + 1}")
        names.append(next(name for name in (own, *other) if name not in names))
    return names


def _readme(
    merged: Adapter, recipe: MergeRecipe, shas: Mapping[str, str], errors: Mapping[str, float], name: str
) -> str:
    method = find_merge_method(find_convention(recipe.merge_method, recipe.preset).method)
    base = recipe.base_model or (merged.card.backbone if merged.card else None)
    head: dict[str, Any] = {"library_name": "peft", "tags": ["lora", "merge", "calora"]}
    known = EMBEDDED.get(base or "")
    if base:
        head |= {"base_model": known.hub, "license": known.licence} if known else {"base_model": base}
    preset = f", as {recipe.preset} has it" if recipe.preset else ""
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
        f"# {name}\n",
        f"A LoRA adapter of rank {merged.rank} ({_stored(merged):,} values in {recipe.dtype})"
        f"{f' for {base}' if base else ''}, merged without training by calora {__version__}: "
        f"[{method.title}]({method.source}){preset}.",
        "`merge.yaml` beside this file makes it again.\n",
        "| adapter | SHA-256 of its tensors |\n| --- | --- |",
        *(f"| {parent} | `{sha}` |" for parent, sha in shas.items()),
    ]
    if known:
        lines.append(f"\nThe adapters were trained on {base}, values of {known.hub}. {known.notice}")
    if errors:
        lines.append(f"\nIt was cut to this rank; {lost(errors)}.")
    return "\n".join(lines) + "\n"


def _stored(merged: Adapter) -> int:
    """How many values its file has, where every module has the largest one's rank."""
    return sum(merged.rank * sum(factors.shape) for factors in merged.modules.values())


def lost(errors: Mapping[str, float]) -> str:
    """What cutting lost, in words."""
    worst = max(errors, key=lambda module: errors[module])
    mean, most = 100 * sum(errors.values()) / len(errors), 100 * errors[worst]
    return f"relative error of a module's update {mean:.1f} % in the mean, {most:.1f} % at most ({worst})"
