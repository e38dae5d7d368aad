"""calora report: tables and the page of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calora.cli import options

if TYPE_CHECKING:
    from calora.bench.recipe import Recipe


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run of calora bench, or of calora demo.")],
    against: Annotated[
        str | None, typer.Option(help="Row that the others are compared with; multi-step if left out.")
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(help="retrieval (if left out), masked_rouge, rouge, in_language, judge or llm_judge."),
    ] = None,
    other: Annotated[Path | None, typer.Option(help="Compare with this run, and write nothing.")] = None,
) -> None:
    """Write report.html and table.md, .csv and .tex into a run, and print the table; own.md is of single tasks.

    The run of a demo, which is one composition and the adapters' own tasks, gets the demo's page again.
    """
    from calora.bench.recipe import Recipe
    from calora.storage import read_card

    recipe = read_card(run / "recipe.json", Recipe)
    if not any((row.label or "").startswith("own-") for row in recipe.approaches):
        _bench(run, against, measure or "retrieval", other)
    else:
        given = {"--against": against, "--measure": measure, "--other": other}
        options.refuse_ignored(given, f"{run} is a demo's run; calora compare compares demos")
        _demo(run, recipe)


def _bench(run: Path, against: str | None, measure: str, other: Path | None) -> None:
    from calora.cli.show import console
    from calora.report import markdown_table, own_table
    from calora.report.bench_page import write_bench_page
    from calora.report.main_table import check_measure, main_table
    from calora.report.reading import read_results
    from calora.report.table_forms import main_csv, main_latex, main_markdown, main_terminal
    from calora.report.two_runs import runs_table
    from calora.storage import write_text

    chosen = check_measure(measure)
    results = read_results(run)
    if other is not None:
        options.refuse_ignored({"--against": against}, "two runs are compared row by row")
        console.print(runs_table(results, read_results(other), chosen))
        return
    table = main_table(results, chosen, against)
    for ending, form in (("md", main_markdown), ("csv", main_csv), ("tex", main_latex)):
        write_text(run / f"table.{ending}", form(table))
    (run / "own.md").unlink(missing_ok=True)
    if results.own:
        write_text(run / "own.md", markdown_table(results.own, own=True))
    page = write_bench_page(results, chosen, against)
    console.print(main_terminal(table))
    if results.own:
        console.print(own_table(results.own))
    if results.left_out:
        options.say(f"left out {len(results.left_out)} cells that the recipe does not ask for")
    options.say(f"report: {page}")


def _demo(run: Path, recipe: "Recipe") -> None:
    from calora.cli.show import console
    from calora.report import demo_table, read_cells, write_page

    cells = read_cells(run)
    page = write_page(run, recipe.model_dump(mode="json"), cells)
    console.print(demo_table(cells))
    options.say(f"report: {page}")
