"""calora bench: work through a benchmark's grid."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calora.cli import options
from calora.errors import CaloraError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from calora.bench.dry_run import Forecast
    from calora.bench.progress import Progress
    from calora.bench.rows import Place


def command(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe in YAML; recipes/ has examples.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder; runs/RECIPE if left out.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Where trained artefacts lie; in the run folder if left out.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the approaches and their options.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show the cells, and do nothing.")] = False,
    dry: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be fetched, trained, stored and needed, and do nothing."),
    ] = False,
    runner: Annotated[str, typer.Option(help="local, or ray: a cell a task of a cluster (docs/data.md).")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; one of this machine alone if left out.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="Of a cell, with --runner ray.")] = 0,
    tflops: Annotated[
        float, typer.Option(min=0.001, help="With --dry-run: what the machine sustains, in TFLOP/s, all devices.")
    ] = 50.0,
) -> None:
    """Make every cell of a recipe that is not there yet; each artefact is trained once, and a stopped run goes on.

    Ends with status 1 if a cell failed; the others are there all the same.
    """
    from calora.bench.grid import Grid
    from calora.bench.recipe import read_recipe
    from calora.bench.store import Store
    from calora.cli.show import console

    if listed:
        console.print(_approaches_table())
        return
    if recipe is None:
        raise CaloraError("no recipe is given", "give one, such as those of recipes/; --list shows the approaches")
    folder = run or Path("runs") / recipe.stem
    artefacts = Store(store or folder / "store")
    if dry:
        from calora.bench.dry_run import forecast

        for table in _forecast_tables(forecast(read_recipe(recipe), folder, artefacts), tflops):
            console.print(table)
        return
    grid = Grid(read_recipe(recipe), folder, artefacts)
    places = grid.places()
    if plan:
        console.print(_plan_table(places))
        return
    if runner not in ("local", "ray"):
        raise CaloraError(f"unknown runner {runner!r}", "runners: local, ray")
    try:
        with following() as grid.follow:
            if runner == "ray":
                from calora.bench.ray_runner import go_on_ray

                cells = go_on_ray(grid, address, gpus=gpus)
            else:
                cells = grid.go()
    finally:  # what failed is told where it is stopped, too
        for line in _failed(grid.progress):
            options.say(line)
    options.say(f"{len(cells)} of {len(places)} cells are in {folder}")
    if len(cells) < len(places):
        raise typer.Exit(1)


@contextmanager
def following() -> "Iterator[Callable[[Progress], None]]":
    """Shows how a grid gets on: a live table on a terminal, a line a step elsewhere."""
    from calora.bench.progress import Progress, failures
    from calora.console import error_console, shown

    begin, latest = time.monotonic(), [Progress()]
    told = 0

    def follow(progress: Progress) -> None:
        nonlocal told
        latest[0] = progress
        if error_console().is_terminal:
            return
        for what, why, _ in failures(progress)[told:]:
            options.say(f"{_clock(time.monotonic() - begin)}  failed: {what}: {why}")
            told += 1
        if progress.now:
            options.say(f"{_clock(time.monotonic() - begin)}  {progress.now}")

    with shown(lambda: _progress_table(latest[0], time.monotonic() - begin)):
        yield follow


def _progress_table(progress: "Progress", seconds: float) -> "RenderableType":
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    left = "" if progress.left is None else f", about {_clock(progress.left).strip()} left"
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("row", "cells", "of"):
        table.add_column(head, justify="left" if head == "row" else "right")
    for label, total in progress.total.items():
        done = progress.done[label]
        table.add_row(Text(label), str(done), str(total), style="dim" if done == total else None)
    failed = [Text(line, "red") for line in _failed(progress)[-3:]]
    return Group(f"{_clock(seconds).strip()} gone{left}", table, Text(progress.now, "dim"), *failed)


def _failed(progress: "Progress") -> list[str]:
    from calora.bench.progress import failures

    return [f"failed: {what}: {why} ({lost} cell{'s' * (lost > 1)} lost)" for what, why, lost in failures(progress)]


def _approaches_table() -> "Table":
    """Every approach with its options and their defaults, and how many settings its tuned row tries."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from calora.approaches.registry import approaches

    table = Table(box=box.SIMPLE_HEAD)
    for head in ("approach", "what it is", "options", "tuned: tries"):
        table.add_column(head, justify="right" if head == "tuned: tries" else "left", no_wrap=head == "approach")
    for name, one in sorted(approaches().items()):
        told = [o.name if o.default is o.empty else f"{o.name}={o.default}" for o in one.options]
        table.add_row(Text(name), Text(one.title), Text(", ".join(told)), str(len(one.search) or ""))
    return table


def _plan_table(places: "Sequence[Place]") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, caption=f"{len(places)} cells", caption_justify="left")
    for head in ("row", "cells", "compositions"):
        table.add_column(head, justify="right" if head == "cells" else "left", overflow="fold")
    counts = Counter(place.row.label for place in places)
    for label, count in counts.items():
        names = dict.fromkeys(str(place.case.composition) for place in places if place.row.label == label)
        table.add_row(Text(label), str(count), Text(" ".join(names)))
    return table


def _forecast_tables(found: "Forecast", tflops: float) -> "Iterator[Table]":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def table(title: str, *heads: str, caption: str | None = None) -> Table:
        made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", caption=caption, caption_justify="left")
        for number, head in enumerate(heads):
            made.add_column(head, justify="right" if number else "left", overflow="fold")
        return made

    fetched = table("to be fetched or made first", "what", "GB")
    for what, size in found.fetched:
        fetched.add_row(Text(what), "?" if size is None else f"{size:.1f}")
    if found.fetched:
        yield fetched
    note = f"hours at {tflops:g} TFLOP/s sustained, of training alone; answering {found.cells[0]} cells is not in them"
    work = table("to be trained", "kind", "wanted", "there", "updates", "hours", caption=note)
    for kind, one in found.work.items():
        hours = one.operations / tflops / 1e12 / 3600
        work.add_row(kind, str(one.wanted), str(one.there), f"{one.updates:,}", f"{hours:.2f}" if one.updates else "")
    total = sum(one.operations for one in found.work.values()) / tflops / 1e12 / 3600
    work.add_row("all", *(["", ""]), f"{sum(one.updates for one in found.work.values()):,}", f"{total:.2f}")
    yield work
    needed = table("needed", "what", "size")
    needed.add_row("cells, of which there are", f"{found.cells[0]}, {found.cells[1]}")
    needed.add_row("adapters and joint experts on disk", f"{found.stored:.2f} GB")
    for name, size in found.memory.items():
        needed.add_row(Text(f"memory to train on {name}, about"), f"{size:.1f} GiB")
    yield needed
    if found.unknown:
        unknown = table("not known", "what")
        for what in dict.fromkeys(found.unknown):
            unknown.add_row(Text(what))
        yield unknown


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:2d}:{minutes % 60:02d}:{rest:02d}"
