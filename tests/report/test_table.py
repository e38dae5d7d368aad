from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from calora.bench.cells import Cell
from calora.report import demo_table, markdown_table, own_table, read_cells


def printed(table: Table, width: int = 110) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def figures(cell: Cell) -> list[str]:
    scores = [cell.scores[key] for key in ("retrieval", "masked_rougeL", "rougeL", "in_language", "empty")]
    return [*(f"{score:.1f}" for score in scores), str(cell.truncated)]


def test_the_table_shows_every_figure_of_every_cell_in_110_columns(write_run: Callable[..., Path]) -> None:
    cells = read_cells(write_run())
    text = printed(demo_table(cells))
    assert "…" not in text
    for cell in cells:
        if cell.approach.startswith("own-"):
            assert cell.title not in text
            continue
        line = next(line for line in text.splitlines() if line.startswith(cell.title[:14])).split()
        costs = cell.costs
        if costs.passes:
            paid = [str(costs.passes), "0.250", "20.0", f"{costs.parameters:,}", f"{costs.mebibytes:.3f}"]
        else:
            paid = ["—"] * 5
        assert line[-11:] == figures(cell) + paid
    assert "Chance retrieval 25.0 %; 12 test dialogues." in text


def test_the_worth_of_the_answers_is_what_they_were_made_to_be(write_run: Callable[..., Path]) -> None:
    lines = markdown_table(read_cells(write_run())).splitlines()
    retrieval = {line.split(" | ")[0].strip("| *"): line.split(" | ")[1] for line in lines if line.startswith("| ")}
    assert retrieval["Zero-shot"] == "16.7"
    assert retrieval["Multi-step"] == "83.3"
    assert retrieval["control: another dialogue's reference"] == "0.0"


def test_controls_come_last_below_a_line_and_dimmed(write_run: Callable[..., Path]) -> None:
    cells = read_cells(write_run())
    table = demo_table([cells[-3], *cells[:-3], *cells[-2:]])
    assert [row.style for row in table.rows] == [None] * 4 + ["dim"]
    assert [row.end_section for row in table.rows] == [False] * 3 + [True, False]


def test_figures_stand_to_the_right_with_one_number_of_decimals(write_run: Callable[..., Path]) -> None:
    table = demo_table(read_cells(write_run()))
    assert [column.justify for column in table.columns] == ["left"] + ["right"] * 11
    for column in table.columns[1:]:
        decimals = {len(str(text).partition(".")[2]) for text in column.cells if text != "—"}
        assert len(decimals) == 1


def test_own_tasks_have_their_own_table(write_run: Callable[..., Path]) -> None:
    cells = read_cells(write_run())
    text = printed(own_table(cells), width=80)
    assert [line.split("  ")[0].strip() for line in text.splitlines() if line.startswith("es:")] == [
        "es: zero-shot",
        "es: adapter",
    ]
    adapter = next(cell for cell in cells if cell.approach == "own-es-adapter")
    assert f"{adapter.scores['chrf']:.1f}" in text
    assert "Multi-step" not in text


def test_markdown_has_the_rows_of_the_table(write_run: Callable[..., Path]) -> None:
    cells = read_cells(write_run())
    head, rule, *rows = [line for line in markdown_table(cells).splitlines() if line.startswith("|")]
    assert head.startswith("| approach | retrieval % | masked ROUGE-L | ROUGE-L | in es % | empty % | cut | passes |")
    assert head.endswith("| added parameters | MiB |")
    assert rule == "| --- |" + " ---: |" * 11
    assert len(rows) == 5 and {row.count("|") for row in rows} == {13}
    assert rows[-1].startswith("| *control: another dialogue's reference* |")
    own = markdown_table(cells, own=True)
    assert own.count("| es: ") == 2 and "Zero-shot" not in own


def test_brackets_and_bars_in_a_title_are_text(write_run: Callable[..., Path]) -> None:
    cell = read_cells(write_run())[0].model_copy(update={"title": "a [bold]|b"})
    assert "a [bold]|b" in printed(demo_table([cell]))
    assert r"a [bold]\|b" in markdown_table([cell])


def test_a_number_of_parameters_that_nobody_knows_is_no_zero(write_run: Callable[..., Path]) -> None:
    cell = read_cells(write_run())[0]
    unknown = cell.model_copy(update={"costs": cell.costs.model_copy(update={"parameters": None})})
    assert markdown_table([cell]).splitlines()[2].endswith(" | 0 | 0.000 |")
    assert markdown_table([unknown]).splitlines()[2].endswith(" | — | — |")


def test_no_cells_give_an_empty_table() -> None:
    assert "No results yet." in printed(demo_table([]))
    assert "No results yet." in printed(own_table([]))
