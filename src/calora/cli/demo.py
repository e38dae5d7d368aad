"""calora demo: the whole way, on a real backbone."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options
from calora.errors import CaloraError


def command(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller data, same path: minutes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="All data, until validation says stop: hours.")] = False,
    composition: Annotated[str, typer.Option(help="A primary task and a secondary one.")] = "summary+es",
    backbone: options.BackboneOption = "gemma3-270m",
    seed: options.SeedOption = 0,
    run: Annotated[Path | None, typer.Option(help="Run folder; one under runs/ if left out.")] = None,
) -> None:
    """Train two adapters, merge and calibrate them, and show what each approach is worth on held-out dialogues.

    A run that was stopped goes on where it stopped.
    """
    if quick and full:
        raise CaloraError("--quick and --full exclude each other", "take one of them")
    from calora.bench.cells import backbone_label
    from calora.bench.demo import Preset, demo_recipe, run_demo

    preset: Preset = "quick" if quick else "full" if full else "default"
    recipe = demo_recipe(preset, composition, backbone, seed)
    folder = run or Path("runs") / f"{composition.replace('+', '-')}-{backbone_label(backbone)}-{preset}-{seed}"

    from calora.cli.bench import following
    from calora.cli.show import console
    from calora.report import demo_table, own_table, sample_answers, show_answers, write_page

    options.say(f"{composition} on {backbone}, {preset}, seed {seed}: {folder}")
    with following() as follow:
        cells, timing = run_demo(recipe, folder, follow)
    show_answers(console, sample_answers(folder, cells))
    console.print(own_table(cells))
    console.print(demo_table(cells))
    passes = recipe.parse(composition).tasks
    console.print(
        f"at equal generated tokens one pass takes {timing.ratio:.0%} of the time of {len(passes)} passes",
        highlight=False,
    )
    page = write_page(folder, recipe.model_dump(mode="json"), cells)
    console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
