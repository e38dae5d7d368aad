import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from calora.bench.cells import read_cell
from calora.errors import CaloraError
from calora.metrics import bootstrap_interval, holm, paired_difference, smallest_detectable
from calora.report.main_table import MainTable, check_measure, main_table
from calora.report.reading import read_results
from calora.report.results import Results
from calora.report.table_forms import latex, main_csv, main_latex, main_markdown, main_terminal

from .bench_runs import COMPOSITIONS, PARAMETERS, SEEDS, SOME, add_judge, cell_path, hits, recipe, write_bench_run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_bench_run(tmp_path_factory.mktemp("runs") / "bench"))


@pytest.fixture(scope="module")
def table(results: Results) -> MainTable:
    return main_table(results)


def repeats(label: str, names: tuple[str, ...]) -> np.ndarray:
    """Retrieval [compositions * seeds, dialogues], as the statistics define a table."""
    return np.array([hits(label, name, seed) for name in names for seed in SEEDS])


def test_means_are_right_by_hand(table: MainTable) -> None:
    multi, linear, calibration, constant = table.rows
    assert [row.label for row in table.rows] == ["multi-step", "linear (tuned)", "calibration", "constant"]
    assert multi.overall.mean == pytest.approx(800 / 9)
    assert linear.overall.mean == pytest.approx(300 / 9)
    assert (linear.compositions, calibration.compositions, table.compositions) == (2, 3, 3)
    assert {name: part.mean for name, part in linear.categories.items()} == pytest.approx(
        {"summary+translation": 300 / 9, "reply+tone": 300 / 9}
    )
    assert multi.against is None and calibration.against is not None
    assert calibration.against.difference.mean == pytest.approx(-200 / 9)
    assert (multi.passes, calibration.passes) == ((2, 3), (1, 1))
    assert (calibration.parameters, calibration.updates, calibration.examples) == (PARAMETERS, 100, 800)
    assert constant.control and constant.against is None and constant.overall.mean == pytest.approx(100 / 9)
    assert calibration.mebibytes == pytest.approx(0.0433, abs=5e-5)


def test_the_family_is_named_by_the_recipe_and_has_no_controls(results: Results) -> None:
    asked = ["multi-step", {"name": "linear", "settings": ["paper", "tuned"]}, "calibration", "constant", "ceiling"]
    asked_for = replace(results, recipe=recipe(approaches=asked))
    assert "Holm for 3 rows" in main_table(asked_for).caption
    assert "Holm for 4 rows" in main_table(asked_for, against="constant").caption


def test_the_share_that_teaching_keeps_is_told(results: Results, table: MainTable) -> None:
    assert "keeps" not in table.caption
    stand = {"calibration-taught": "linear (tuned)", "linear": "constant"}  # 3 and 1 of nine, against 6
    entries = {(row, name): results.entries[other, name] for row, other in stand.items() for name in SOME}
    taught = replace(
        results,
        recipe=recipe(approaches=["multi-step", "linear", "calibration", "calibration-taught"]),
        titles=results.titles | {row: row.upper() for row in stand},
        entries=results.entries | entries,
    )
    assert re.search(
        r"On the 2 compositions that all three have, CALIBRATION-TAUGHT keeps 40 % \(-?\d+ to \d+\) of what "
        r"Learnable <Calibration> gains over LINEAR\.$",
        main_table(taught).caption,
    )


def test_statistics_are_those_of_all_repeats(table: MainTable) -> None:
    multi, linear, calibration, _ = table.rows
    assert (multi.overall.low, multi.overall.high) == bootstrap_interval(repeats("multi-step", COMPOSITIONS))
    own = paired_difference(repeats("calibration", COMPOSITIONS), repeats("multi-step", COMPOSITIONS))
    some = paired_difference(repeats("linear (tuned)", SOME), repeats("multi-step", SOME))
    assert calibration.against is not None and linear.against is not None
    found = calibration.against.difference
    assert (found.mean, found.low, found.high, found.p) == pytest.approx((own.mean, own.low, own.high, own.p))
    assert calibration.against.smallest == pytest.approx(
        smallest_detectable(repeats("calibration", COMPOSITIONS), repeats("multi-step", COMPOSITIONS))
    )
    assert linear.against.cells == linear.cells == 2 * len(SEEDS)
    adjusted = holm({"calibration": own.p, "linear (tuned)": some.p})
    assert (calibration.against.adjusted, linear.against.adjusted) == pytest.approx(tuple(adjusted.values()))


def test_only_what_is_significant_is_bold(results: Results, table: MainTable) -> None:
    lines = [line for line in main_markdown(table).splitlines() if line.startswith("|")][2:]
    for row, line in zip(table.rows, lines, strict=True):
        assert ("**" in line) == bool(row.against and row.against.adjusted < 0.05)
        assert row.against is None or "**" not in line or f"**{row.against.difference.mean:+.1f}**" in line
    assert any(row.against and row.against.significant for row in table.rows)
    language = main_table(results, "in_language")
    assert all(row.against is None or not row.against.significant for row in language.rows)
    assert "**" not in main_markdown(language) and r"\textbf" not in main_latex(language)


def test_all_forms_hold_the_same_figures(table: MainTable) -> None:
    rows = list(csv.DictReader(io.StringIO(main_csv(table))))
    marked = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in main_markdown(table).splitlines()
        if line.startswith("|")
    ]
    tex = [
        [cell.strip() for cell in line.removesuffix(r"\\").split(" & ")]
        for line in main_latex(table).splitlines()
        if " & " in line
    ]
    assert len(rows) == len(marked) - 2 == len(tex) - 1 == 4
    heads = marked[0]
    for row, marks, sets in zip(rows, marked[2:], tex[1:], strict=True):
        assert [latex(cell.replace("**", "").strip("*")) for cell in marks] == [
            re.sub(r"\\text(?:bf|it)\{(.*?)\}", r"\1", cell) for cell in sets
        ]
        figures = dict(zip(heads, marks, strict=True))
        assert figures["overall"] == (
            f"{float(row['overall']):.1f} ({float(row['overall_low']):.1f} to {float(row['overall_high']):.1f})"
        )
        assert figures["of"] == row["compositions"]
        assert figures["MiB"] == (f"{float(row['mib']):.3f}" if row["mib"] else "—")
        if row["difference"]:
            assert figures["minus multi-step"].replace("*", "").startswith(f"{float(row['difference']):+.1f}")
            assert figures["can show"] == f"{float(row['can_show']):.1f}"
        else:
            assert figures["minus multi-step"] == figures["p"] == "—"
    assert [row["three tasks"] == "" for row in rows] == [False, True, False, False]
    assert {row["reference"] for row in rows} == {"multi-step"}


def test_the_terminal_shows_every_figure(table: MainTable) -> None:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(main_terminal(table))
    text = capture.get()
    assert "…" not in text
    for row in table.rows:
        assert f"{row.overall.low:.1f} to {row.overall.high:.1f}" in text
    assert f"{PARAMETERS:,}" in text and "2 to 3" in text


def test_latex_sets_special_characters() -> None:
    assert latex("50 % & a_b {c} #1 $x") == r"50 \% \& a\_b \{c\} \#1 \$x"
    assert (
        latex("-3.2") == "$-$3.2" and latex("+1 (-2 to 3)") == "+1 ($-$2 to 3)" and latex("multi-step") == "multi-step"
    )
    assert (
        latex("<0.001") == "$<$0.001"
        and latex("—") == "---"
        and latex("\\~^") == (r"\textbackslash{}\textasciitilde{}\textasciicircum{}")
    )


def test_another_row_may_be_the_reference(results: Results) -> None:
    table = main_table(results, against="calibration")
    assert [row.against is None for row in table.rows] == [False, False, True, True]
    assert table.rows[0].against is not None
    assert table.rows[0].against.difference.mean == pytest.approx(200 / 9)
    assert "minus calibration" in main_markdown(table)
    with pytest.raises(CaloraError, match="no row 'nothing'") as error:
        main_table(results, against="nothing")
    assert "linear (tuned)" in str(error.value.hint)


def test_a_run_without_multi_step_has_no_comparison(results: Results, tmp_path: Path) -> None:
    run = Path(shutil.copytree(results.run, tmp_path / "bench"))
    for path in (run / "cells").glob("*multi-step*"):
        path.unlink()
    table = main_table(read_results(run))
    assert table.reference is None
    assert "minus" not in main_markdown(table) and "difference" not in main_csv(table)


def test_a_row_that_lacks_a_part_of_a_category_is_marked(table: MainTable) -> None:
    assert "33.3*" not in main_markdown(table)
    fuller = replace(table, categories=table.categories | {"reply+tone": 2})
    assert main_markdown(fuller).count("33.3*") == 1


def test_a_row_that_lacks_cells_says_so(results: Results, tmp_path: Path) -> None:
    assert "cells" not in main_markdown(main_table(results))
    run = Path(shutil.copytree(results.run, tmp_path / "bench"))
    for name in SOME:
        cell_path(run, "calibration", name, SEEDS[0]).unlink()
    cell_path(run, "multi-step", COMPOSITIONS[2], SEEDS[0]).unlink()
    table = main_table(read_results(run))
    by_label = {row.label: row for row in table.rows}
    calibration = by_label["calibration"]
    assert (calibration.compositions, calibration.cells, calibration.asked) == (3, 4, 6)
    assert calibration.against is not None and calibration.against.cells == 3
    text = main_markdown(table)
    assert "| 3 (4 of 6 cells) |" in text and "(on 3 cells)" in text
    assert "its means are of other seeds" in table.caption and "fewer cells than the row has" in table.caption


def test_a_judge_of_one_composition_gives_a_table_of_it(results: Results, tmp_path: Path) -> None:
    run = Path(shutil.copytree(results.run, tmp_path / "bench"))
    add_judge(run, "summary+es")
    judged = main_table(read_results(run), "judge")
    assert [row.compositions for row in judged.rows] == [1, 1, 1, 1]
    assert [row.overall.mean for row in judged.rows] == [100, 100, 100, 100]
    assert {row.against.adjusted for row in judged.rows if row.against} == {1.0}


def test_measures_that_are_not_there_are_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match=r"no approach in .* has scores of judge") as error:
        main_table(results, "judge")
    assert "in_language" in str(error.value.hint)
    run = Path(shutil.copytree(results.run, tmp_path / "bench"))
    for path in (run / "cells").glob("*.json"):
        if "constant" not in path.name:
            path.unlink()
    with pytest.raises(CaloraError, match="has scores of retrieval") as error:
        main_table(read_results(run))
    assert "nothing yet" in str(error.value.hint)
    with pytest.raises(CaloraError, match="unknown measure 'bleu'"):
        check_measure("bleu")


def test_what_groups_of_several_sizes_share(tmp_path: Path) -> None:
    run = write_bench_run(tmp_path / "bench")
    sizes = dict(zip(COMPOSITIONS, (3, 4, 1), strict=True))
    for name, size in sizes.items():
        for seed in SEEDS:
            path = cell_path(run, "calibration", name, seed)
            cell = json.loads(path.read_text(encoding="utf-8"))
            cell["costs"]["shared_by"] = size
            path.write_text(json.dumps(cell), encoding="utf-8")
    found = next(row for row in main_table(read_results(run)).rows if row.label == "calibration")
    groups = 1 / 3 + 1 / 4 + 1
    assert len(COMPOSITIONS) / found.shared_by == pytest.approx(groups)
    assert found.together == PARAMETERS
    assert found.parameters == pytest.approx(PARAMETERS * groups / len(COMPOSITIONS))


def test_costs_that_several_share_are_told_by_share(tmp_path: Path) -> None:
    run = write_bench_run(tmp_path / "bench")
    assert read_cell(cell_path(run, "multi-step", "summary+es", 0)).truncated == 1, "the first answer is cut there"
    for name in COMPOSITIONS:
        for seed in SEEDS:
            path = cell_path(run, "calibration", name, seed)
            cell = json.loads(path.read_text(encoding="utf-8"))
            cell["costs"]["shared_by"] = 2
            path.write_text(json.dumps(cell), encoding="utf-8")
    found = next(row for row in main_table(read_results(run)).rows if row.label == "calibration")
    assert (found.updates, found.examples) == (50, 400)
