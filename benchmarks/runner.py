"""What the grid's runner costs beside the work itself.

    python benchmarks/runner.py [RECIPE.yaml]

Runs a recipe (recipes/small.yaml if none is given) in a folder of its own and prints how long its parts took: making
each artefact, and answering each cell with scoring and timing; the backbone is loaded in the first of them. The rest of
the whole is the runner's: planning, fingerprints, locks, reading artefacts back.
"""

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from calora.bench.grid import Grid
from calora.bench.recipe import read_recipe
from calora.bench.store import Store

RECIPE = Path(__file__).parents[1] / "recipes" / "small.yaml"


def main() -> None:
    """Run and tell."""
    recipe = read_recipe(Path(sys.argv[1]) if sys.argv[1:] else RECIPE)
    with tempfile.TemporaryDirectory() as temporary:
        grid = Grid(recipe, Path(temporary) / "run", Store(Path(temporary) / "store"))
        begin = time.monotonic()
        cells = grid.go()
        whole = time.monotonic() - begin
    parts = grid.seconds
    table = Table(title=f"{recipe.backbones[0]}: {len(cells)} cells, {len(grid.progress.failed)} failed")
    table.add_column("part")
    for head in ("times", "seconds", "%"):
        table.add_column(head, justify="right")
    for name, seconds in parts.items():
        table.add_row(name, str(len(seconds)), f"{sum(seconds):.1f}", f"{100 * sum(seconds) / whole:.1f}")
    known = sum(map(sum, parts.values()))
    table.add_section()
    table.add_row("the runner", "", f"{whole - known:.1f}", f"{100 * (whole - known) / whole:.1f}")
    table.caption = f"whole {whole:.1f} s; over the sum of its parts {100 * (whole / known - 1):.1f} %"
    Console().print(table)


if __name__ == "__main__":
    main()
