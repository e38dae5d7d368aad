"""calora demo: the whole way, on a real backbone."""

import time
from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


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
    from calora.errors import CaloraError

    if quick and full:
        raise CaloraError("--quick and --full exclude each other", "take one of them")
    from calora.bench.settings import Preset, demo_settings
    from calora.tasks import Composition

    Composition.parse(composition)
    preset: Preset = "quick" if quick else "full" if full else "default"
    settings = demo_settings(preset, composition, backbone, seed)
    folder = run or Path("runs") / f"{composition.replace('+', '-')}-{Path(backbone).stem}-{preset}-{seed}"

    from calora.bench.demo import Demo
    from calora.cli.show import console, counting
    from calora.report import demo_table, own_table, sample_answers, show_answers, write_page
    from calora.storage import write_text

    begin = time.monotonic()
    options.say(f"{composition} on {backbone}, {preset}, seed {seed}: {folder}")
    demo = Demo(settings, folder, lambda step: options.say(f"{_clock(time.monotonic() - begin)}  {step}"), counting)
    write_text(folder / "settings.json", settings.model_dump_json(indent=2) + "\n")
    cells = list(demo.go().values())
    show_answers(console, sample_answers(folder, cells))
    console.print(own_table(cells))
    console.print(demo_table(cells))
    console.print(
        f"at equal generated tokens one pass takes {demo.timing.ratio:.0%} of the time of "
        f"{len(demo.composition.tasks)} passes",
        highlight=False,
    )
    page = write_page(folder, settings.model_dump(mode="json"), cells)
    console.print(f"report: {page}", highlight=False)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}"
