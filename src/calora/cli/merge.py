"""calora merge: several adapters to one, without training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calora.cli import options
from calora.cli.auto_merge import search

if TYPE_CHECKING:
    from calora.merging.recipe import MergeRecipe


def command(
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders in PEFT's format; or a recipe (.yaml) and the folder of the merged adapter."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the merged adapter.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="One of --list, or the preset's; factors if both are left out.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Read names and defaults as peft or mergekit does.")] = None,
    strengths: options.StrengthsOption = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="One of the method's own, such as density=0.5.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Cut the result to a rank; one of full rank to the parents' if left out.")
    ] = None,
    energy: Annotated[
        float | None, typer.Option(help="Cut it to the ranks that keep this share of each squared norm.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of what is written: float32, float16, or bfloat16 if left out.")
    ] = None,
    composition: Annotated[
        str | None, typer.Option(help="What it will be asked for; gives its prompt, so that `calora run` can use it.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="For --composition: what the adapters are for, if they do not say.")
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Search method and strengths for --composition.")] = False,
    data: options.DataOption = None,
    budget: Annotated[int | None, typer.Option(min=1, help="How many merges --auto tries; 40 if left out.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the methods and their parameters.")] = False,
    force: Annotated[bool, typer.Option(help="Replace OUT.")] = False,
) -> None:
    """Merge adapters over their low-rank factors; a backbone is opened only for --composition's prompt, or by --auto.

    With a recipe: calora merge recipe.yaml OUT
    """
    if listed:
        from calora.merging.listing import print_methods

        print_methods()
        return
    from calora.errors import CaloraError

    places = list(adapters or ())
    told: dict[str, object] = {"--method": method, "--preset": preset, "--strengths": strengths, "--rank": rank}
    told |= {"--parameter": parameter, "--energy": energy, "--dtype": dtype}
    if not auto:
        options.refuse_ignored({"--data": data, "--budget": budget}, "only --auto searches")
        if composition is None:
            options.refuse_ignored({"--backbone": backbone}, "it is for --composition's prompt")
    if auto:
        options.refuse_ignored(told, "--auto finds them")
        if composition is None or out is None or not places:
            raise CaloraError("--auto needs adapters, --composition and --out", "what is it to be for, and where to?")
        search(places, out, composition, backbone, data, budget, force)
        return
    if places and places[0].suffix in (".yaml", ".yml"):
        if len(places) > 2 or (len(places) == 2 and out is not None):
            raise CaloraError("a recipe names its adapters itself", "calora merge recipe.yaml OUT")
        options.refuse_ignored(told, "the recipe says how")
        out = places[1] if len(places) == 2 else out
        recipe = _read(places[0])
    else:
        chosen = options.method_of(method, preset)
        recipe = _made(places, chosen, preset, strengths, parameter or [], rank, energy, dtype)
    if out is None:
        raise CaloraError("where to?", "name a folder for the merged adapter: --out merged")
    _merge(recipe, out, composition, backbone, force)


def _read(path: Path) -> "MergeRecipe":
    from calora.merging.recipe import read_merge_recipe

    return read_merge_recipe(path)


def _made(
    adapters: list[Path],
    method: str,
    preset: str | None,
    strengths: str | None,
    parameters: list[str],
    rank: int | None,
    energy: float | None,
    dtype: str | None,
) -> "MergeRecipe":
    """The recipe that the options say."""
    from pydantic import ValidationError

    from calora.errors import CaloraError
    from calora.merging.conventions import find_convention
    from calora.merging.recipe import MergeRecipe, ModelEntry

    if not adapters:
        raise CaloraError(
            "nothing to merge", "give folders of adapters or a recipe; `calora merge --list` shows the methods"
        )
    given = options.parse_strengths(strengths)
    chosen = dict(map(options.parse_parameter, parameters))
    of_each = {"weight": given} if given is not None else {}
    if isinstance(chosen.get("density"), tuple):
        of_each["density"] = chosen.pop("density")
    for key, values in of_each.items():
        if len(values) != len(adapters):
            raise CaloraError(f"{len(values)} values of {key} for {len(adapters)} adapters", "give one an adapter")
    entries = tuple(
        ModelEntry(model=str(folder), parameters={key: values[place] for key, values in of_each.items()})
        for place, folder in enumerate(adapters)
    )
    if preset is None and method != "linear" and (ours := find_convention(method).method) != method:
        options.say(f"{method} is read as calora's {ours}; with --preset peft or mergekit as that tool means it")
        method = ours
    try:
        return MergeRecipe(
            merge_method=method,
            models=entries,
            preset=preset,  # type: ignore[arg-type]
            parameters=chosen,
            rank=rank,
            energy=energy,
            **({"dtype": dtype} if dtype else {}),  # type: ignore[arg-type]
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CaloraError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "see calora merge --help") from error


def _merge(recipe: "MergeRecipe", out: Path, composition: str | None, backbone: str | None, force: bool) -> None:
    from calora.adapter import Adapter
    from calora.merging.recipe import full_rank, merge_by_recipe
    from calora.merging.shipping import lost, parent_names, read_models, write_merged
    from calora.tasks import Composition

    parsed = Composition.parse(composition) if composition else None
    options.refuse_existing(out, force)
    parents, recipe = read_models(recipe)
    names = parent_names([entry.model for entry in recipe.models], parents)
    if full_rank(recipe, parents):
        recipe = recipe.model_copy(update={"rank": max(parent.rank for parent in parents)})
    merged, errors = merge_by_recipe(recipe, parents)
    assert isinstance(merged, Adapter)
    asked = (options.backbone_of(parents, recipe.base_model, backbone), parsed) if parsed is not None else None
    write_merged(merged, out, recipe, parents, errors, name=composition or "+".join(names), asked=asked)
    told = f"rank {merged.rank}, {recipe.dtype}{f'; {lost(errors)}' if errors else ''}"
    options.say(f"wrote {out}: {recipe.merge_method}, {told}")
