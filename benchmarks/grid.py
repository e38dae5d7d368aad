"""What the benchmark's runner costs beside the work that it runs.

    python benchmarks/grid.py RECIPE.yaml

Runs a recipe in an empty folder and compares its time with the sum of its parts: training and searching, as the records
of its artefacts say, and decoding, as the cells say. What is left is planning, reading, writing and scoring; scoring,
which a single evaluation pays as well, is timed again on the same answers and told apart.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from calora.bench.case import Case, Workplace
from calora.bench.cells import read_cell, read_predictions
from calora.bench.grid import Grid
from calora.bench.recipe import read_recipe
from calora.bench.store import Store
from calora.metrics import score_answers


def main() -> None:
    """Run the recipe and print where the time went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    recipe = read_recipe(parser.parse_args().recipe)
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary)
        place = Workplace(recipe)
        for name in recipe.backbones:
            place.backbone(name)
        begin = time.perf_counter()
        grid = Grid(recipe, run, Store(run / "store"), place=place, timed=False)
        cells = grid.go()
        whole = time.perf_counter() - begin
        assert not grid.progress.failed, grid.progress.failed
        records = [json.loads(path.read_text()) for path in (run / "store" / "records").glob("*.json")]
        paths = [*(run / "cells").glob("*.json"), *(run / "validation" / "cells").glob("*.json")]
        decoding = sum(cell.costs.seconds * cell.n for cell in map(read_cell, paths))
        parts = {"artefacts": sum(record["seconds"] for record in records), "decoding": decoding}
        parts["scoring"] = _scoring(paths, place)
    rest = whole - sum(parts.values())
    for name, seconds in [*parts.items(), ("the runner", rest)]:
        print(f"{name:12} {seconds:8.1f} s  {seconds / whole:6.1%}")
    print(
        f"{'all':12} {whole:8.1f} s, {len(cells)} cells; the runner adds {rest / sum(parts.values()):.1%} to its parts"
    )


def _scoring(paths: list[Path], place: Workplace) -> float:
    """Seconds to score every cell's answers once more."""
    begin = time.perf_counter()
    for path in paths:
        cell, rows = read_cell(path), read_predictions(path)
        case = Case(place, cell.backbone, place.recipe.parse(cell.composition), cell.seed)
        examples = case.evaluation_examples("validation" if path.parent.parent.name == "validation" else "test")
        score_answers(
            [row["answer"] for row in rows],
            [example.target for example in examples],
            [example.names for example in examples],
            [example.domain for example in examples],
            case.composition.language,
        )
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
