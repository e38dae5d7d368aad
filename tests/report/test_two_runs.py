from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from calora.errors import CaloraError
from calora.metrics import holm
from calora.report.reading import read_results
from calora.report.results import Results
from calora.report.two_runs import compare_runs, runs_table

from .bench_runs import SOME, write_bench_run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """Two runs; the second has two compositions, one seed, and one answer more of the calibration right."""
    place = tmp_path_factory.mktemp("runs")
    first, second = write_bench_run(place / "one"), write_bench_run(place / "two", shift=1, seeds=[0])
    for path in (second / "cells").glob("summary+professional+es--*"):
        path.unlink()
    return read_results(first), read_results(second)


def test_rows_are_compared_on_what_both_have(both: tuple[Results, Results]) -> None:
    multi, linear, calibration = compare_runs(*both)
    assert [row.compositions for row in (multi, linear, calibration)] == [len(SOME)] * 3
    assert calibration.difference.mean == pytest.approx(-100 / 9)
    assert (calibration.first, calibration.second) == pytest.approx((600 / 9, 700 / 9))
    assert multi.difference.mean == pytest.approx(0)
    assert calibration.difference.low < calibration.difference.mean < calibration.difference.high
    turned = compare_runs(*both[::-1])
    assert turned[2].difference.mean == pytest.approx(100 / 9)


def test_the_table_names_both_runs(both: tuple[Results, Results]) -> None:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(runs_table(*both))
    for text in ("one", "two", "-11.1", "Learnable <Calibration>"):
        assert text in capture.get()


def test_runs_that_cannot_be_compared_are_refused(both: tuple[Results, Results], tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match="share no scores of judge"):
        compare_runs(*both, "judge")
    other = read_results(write_bench_run(tmp_path / "other", seeds=[0], compositions=["summary+es"]))
    fewer = Results(**{**vars(other), "dialogues": other.dialogues[1:]})
    with pytest.raises(CaloraError, match=f"other test dialogues than .*one: {other.dialogues[0]}"):
        compare_runs(both[0], fewer)
    asks = {name: tuple(replace(one, target="Other.") for one in found) for name, found in other.examples.items()}
    with pytest.raises(CaloraError, match=r"asks other texts of summary\+es than .*one, or has other references"):
        compare_runs(both[0], replace(other, examples=asks))


def test_runs_of_other_making_are_told_apart(both: tuple[Results, Results]) -> None:
    first, second = both
    entries = {}
    for place, entry in second.entries.items():
        cells = {
            repeat: cell.model_copy(
                update={"provenance": cell.provenance | {"made_with": {"processor": "another one"}}}
            )
            for repeat, cell in entry.cells.items()
        }
        entries[place] = replace(entry, cells=cells)
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(runs_table(first, replace(second, entries=entries)))
    assert "Not all cells are of one making" in capture.get() and "another one" in capture.get()


def test_p_values_of_two_runs_are_adjusted(tmp_path: Path) -> None:
    first, second = write_bench_run(tmp_path / "one"), write_bench_run(tmp_path / "two", shift=2)
    rows = compare_runs(read_results(first), read_results(second))
    expected = holm({row.title: row.difference.p for row in rows})
    assert [row.adjusted for row in rows] == list(expected.values())
    assert [row.adjusted for row in rows] != [row.difference.p for row in rows]
