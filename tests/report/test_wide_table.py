"""Every table at the width of a common terminal: each name and each figure is there whole."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from calora.backbone import Backbone
from calora.merging.diagnostics import inspect_merge
from calora.report import comparison_table, demo_table, own_table, pooled, read_cells
from calora.report.inspection import between, by_kind, in_all
from calora.report.main_table import main_table
from calora.report.reading import read_results
from calora.report.table_forms import main_terminal
from calora.report.two_runs import runs_table
from calora.report.wide_table import WideTable
from tests.conftest import random_adapter

from .bench_runs import write_bench_run


def printed(shown: RenderableType, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def words(cells: Iterable[RenderableType]) -> Counter[str]:
    return Counter(word for cell in cells for word in (cell.plain if isinstance(cell, Text) else str(cell)).split())


def check_whole(table: Table, width: int) -> None:
    """What is printed is what the table holds, the names once a part, and the caption below."""
    caption, table.caption = table.caption or "", None
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    parts = sum(set(line.strip()) == {"─"} for line in text.splitlines())
    asked: Counter[str] = Counter()
    for place, column in enumerate(table.columns):
        found = words([column.header, *column.cells])
        asked += Counter({word: count * (1 if place else parts) for word, count in found.items()})
    assert Counter(word for word in text.split() if set(word) != {"─"}) == asked
    table.caption = caption
    assert "".join(printed(table, width).split()).endswith("".join(str(caption).split()))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_tables_of_demos_are_whole(write_run: Callable[..., Path], width: int) -> None:
    runs = [write_run("zero", 0), write_run("one", 1)]
    check_whole(demo_table(read_cells(runs[0])), width)
    check_whole(own_table(read_cells(runs[0])), width)
    check_whole(comparison_table(pooled(runs)), width)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_tables_of_benchmarks_are_whole(tmp_path: Path, width: int) -> None:
    results = read_results(write_bench_run(tmp_path / "one"))
    tables = [part for part in main_terminal(main_table(results)).renderables if isinstance(part, Table)]
    assert len(tables) == 2
    for table in [*tables, runs_table(results, results)]:
        check_whole(table, width)


def test_tables_of_an_inspection_are_whole(llama: Backbone) -> None:
    names = [f"an-adapter-of-a-long-name-{seed}" for seed in range(4)]
    found = inspect_merge([random_adapter(llama, seed, name=name) for seed, name in enumerate(names)], "product")
    for table in (in_all(found), by_kind(found), between(found)):
        check_whole(table, 80)


def test_a_table_that_fits_is_one(write_run: Callable[..., Path]) -> None:
    table = demo_table(read_cells(write_run()))
    assert [printed(table, width).count("approach") for width in (160, 100, 80, 60)] == [1, 1, 2, 2]


def test_a_p_value_stays_with_its_difference() -> None:
    table = WideTable("name", "one", "minus", "p", caption="below")
    table.add_row("n" * 16, "1" * 10, "2" * 10, "3")
    table.joined = [3]
    narrow = printed(table, 40).splitlines()
    head = next(line for line in narrow if "minus" in line)
    assert "p" in head and "one" not in head
    assert narrow[-1] == "below"
    assert any("minus" in line and " p " not in line for line in printed(table, 34).splitlines())
