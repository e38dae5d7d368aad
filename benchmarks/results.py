"""The tables of README.md and docs/results.md, made from the committed cells.

    python benchmarks/results.py [--check]

In a page a table stands between `<!-- cells: WHAT -->` and `<!-- end -->`, where WHAT is one of

    demo RUN                      each adapter on its own task, and every approach of a demo
    approaches RUN                the latter alone
    compare MEASURE RUN...        runs of several seeds together, with paired differences
    table MEASURE RUN             the main table of a benchmark
    own RUN                       its adapters, each on its own task
    found RUN                     what searches of its own chose for each composition

With `--check` nothing is written, and the exit code is 1 if a page says something else than the cells. A table of a run
on data that may not be shipped with calora, and is not here, is left as it is.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calora.bench.recipe import Recipe
from calora.report import comparison_markdown, markdown_table, pooled, read_cells
from calora.report.main_table import check_measure, main_table
from calora.report.reading import read_results
from calora.report.table_forms import main_markdown
from calora.storage import read_card

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
_MARK = re.compile(r"(<!-- cells: ([^\n]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def demo(run: str) -> str:
    """The tables of a demo's run."""
    cells = read_cells(ROOT / run)
    return f"{markdown_table(cells, own=True)}\n{markdown_table(cells)}"


def approaches(run: str) -> str:
    """The table of a demo's approaches."""
    return markdown_table(read_cells(ROOT / run))


def compare(measure: str, *runs: str) -> str:
    """Runs of several seeds together."""
    return comparison_markdown(pooled([ROOT / run for run in runs]), measure)  # type: ignore[arg-type]


def table(measure: str, run: str) -> str:
    """The main table of a benchmark."""
    return main_markdown(main_table(read_results(ROOT / run), check_measure(measure)))


def own(run: str) -> str:
    """The adapters of a benchmark, each on its own task."""
    return markdown_table(read_results(ROOT / run).own, own=True)


def found(run: str) -> str:
    """What approaches that search for each composition chose."""
    head = "| composition | approach | found |\n| --- | --- | --- |"
    cells = [cell for entry in read_results(ROOT / run).entries.values() for cell in entry.cells.values()]
    rows = [(cell.composition, cell.title, cell.provenance["found"]) for cell in cells if "found" in cell.provenance]
    return "\n".join([head, *(f"| {asked} | {title} | {_words(what)} |" for asked, title, what in rows)])


def _words(found: dict[str, Any]) -> str:
    """`karcher`, 0.8 and 0.6."""
    strengths = " and ".join(f"{strength:.2g}" for strength in found["strengths"])
    return f"`{found.get('method') or found['start']}`, {strengths}"


KINDS: dict[str, Callable[..., str]] = {
    "demo": demo,
    "approaches": approaches,
    "compare": compare,
    "table": table,
    "own": own,
    "found": found,
}


def has_data(run: Path) -> bool:
    """Whether the records of a run are here; those of the Everyday corpus always are."""
    data = read_card(run / "recipe.json", Recipe).data
    return all((ROOT / path).exists() for path in (*data.records, *data.tested_on))


def filled(page: str) -> str:
    """The page with every table made anew."""

    def made(mark: re.Match[str]) -> str:
        kind, *rest = mark[2].split()
        if not has_data(ROOT / rest[-1]):
            print(f"left as it is, its data are not here: {mark[2]}")
            return mark[0]
        return f"{mark[1]}\n{KINDS[kind](*rest).strip()}\n\n{mark[4]}"

    return _MARK.sub(made, page)


def main() -> None:
    """Fill the pages, or look whether it is so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        found = filled(page)
        if not check:
            path.write_text(found, encoding="utf-8")
        elif found != page:
            odd = next(line for line, other in zip(page.split("\n"), found.split("\n"), strict=False) if line != other)
            raise SystemExit(f"{path.name} does not say what the cells say: {odd}\nrun python benchmarks/results.py")


if __name__ == "__main__":
    main()
