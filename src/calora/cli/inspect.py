"""calora inspect: what adapters have to do with each other, and what a merge leaves of each."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calora.cli import options

if TYPE_CHECKING:
    from calora.merging.diagnostics import Inspection


def command(
    adapters: Annotated[list[Path], typer.Argument(help="Folders in PEFT's format.")],
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="The merge to look at, see calora merge --list; factors if left out."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Read names and defaults as peft or mergekit does.")] = None,
    strengths: options.StrengthsOption = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="One of the method's own, such as density=0.5.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Tell the merge's error at it; at the parents' if left out.")] = None,
    heat_map: Annotated[Path | None, typer.Option("--map", help="Write a heat map: .svg, .png or .pdf.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure of every module.")] = None,
) -> None:
    """Compare adapters by module: norms, ranks, angles, signs, and what a merge keeps of each. Opens no backbone."""
    import json

    from rich.console import Console
    from rich.text import Text

    from calora.merging.diagnostics import inspect_merge
    from calora.merging.recipe import number
    from calora.report.inspection import between, by_kind, in_all
    from calora.storage import write_text

    merged_by = options.method_of(method, preset)
    values, parents = options.read_parents(adapters)
    chosen = dict(map(options.parse_parameter, parameter or ()))
    scale = number("lambda", chosen.pop("lambda", 1.0))
    found = inspect_merge(
        values, merged_by, options.parse_strengths(strengths), rank=rank, scale=scale, preset=preset, **chosen
    )
    found = replace(found, names=tuple(parents))  # an adapter without a card by its folder
    console = Console()
    for table in (in_all(found), by_kind(found), *([between(found)] if len(parents) > 1 else [])):
        console.print(table)
    for warning in found.warnings():
        console.print(Text.assemble(("warning:", "bold yellow"), f" {warning}"), soft_wrap=True)
    if json_file is not None:
        write_text(json_file, json.dumps(asdict(found), indent=1) + "\n")
        options.say(f"wrote {json_file}")
    if heat_map is not None:
        _draw(found, heat_map)
        options.say(f"wrote {heat_map}")


def _draw(found: "Inspection", place: Path) -> None:
    from calora.errors import CaloraError
    from calora.report.inspection import draw_map

    if place.suffix not in (".svg", ".png", ".pdf"):
        raise CaloraError(f"a heat map in {place.suffix or 'no'} format", "name a file that ends in .svg, .png or .pdf")
    draw_map(found, place)
