import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from calora.bench.recipe import Recipe
from calora.errors import CaloraError
from calora.metrics import bootstrap_interval, paired_difference, smallest_detectable
from calora.report import comparison_markdown, comparison_rows, comparison_table, pooled
from calora.report.folder import predictions_of, read_cells

from .conftest import EXAMPLES, RIGHT, answered, write_named_cell


def hits(approach: str) -> np.ndarray:
    """Retrieval [2 seeds, dialogues], from how the answers were made."""
    order = np.arange(len(EXAMPLES)) * 5
    return np.array([100.0 * ((order + seed) % len(EXAMPLES) < RIGHT[approach]) for seed in (0, 1)])


@pytest.fixture
def runs(write_run: Callable[..., Path]) -> list[Path]:
    return [write_run("zero", 0), write_run("one", 1)]


def test_scores_are_seeds_by_dialogues(runs: list[Path]) -> None:
    pool = pooled(runs)
    assert (pool.composition, pool.backbone, pool.seeds) == ("summary+es", "tiny", (0, 1))
    assert pool.dialogues == tuple(example.id for example in EXAMPLES)
    assert list(pool.titles) == ["zero-shot", "linear-tuned", "multi-step", "low-rank-factors", "neighbour"]
    assert pool.controls == {"neighbour"}
    for approach in RIGHT:
        assert np.array_equal(pool.scores[approach]["retrieval"], hits(approach))
    lines = (runs[1] / "predictions/summary+es--zero-shot--tiny--1.jsonl").read_text(encoding="utf-8").splitlines()
    rouge = [json.loads(line)["scores"]["masked_rougeL"] for line in lines]
    assert pool.scores["zero-shot"]["masked_rougeL"][1].tolist() == rouge


def test_cells_of_another_seed_that_was_begun_in_the_folder_are_none_of_the_run(
    write_run: Callable[..., Path], runs: list[Path]
) -> None:
    both = write_run("both", 0)
    shutil.copytree(write_run("later", 1), both, dirs_exist_ok=True)
    with pytest.raises(CaloraError, match=r"both has the seeds 0, 1"):
        pooled([both])
    rows = [{"name": "zero-shot", "label": label} for label in RIGHT]
    values = {"backbones": ["tiny"], "seeds": [1], "compositions": ["summary+es"], "approaches": rows}
    (both / "recipe.json").write_text(Recipe.model_validate(values).model_dump_json(), encoding="utf-8")
    assert (
        pooled([both]).scores["zero-shot"]["retrieval"].tolist()
        == pooled(runs[1:]).scores["zero-shot"]["retrieval"].tolist()
    )


def test_a_backbones_path_is_read_from_anywhere(
    write_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models/tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    write_named_cell(tmp_path / "own", "zero-shot", "Zero-shot", answered(3), backbone="models/tiny")
    assert [path.name for path in (tmp_path / "own/cells").iterdir()] == ["summary+es--zero-shot--tiny--0.json"]
    monkeypatch.chdir("/")
    (cell,) = read_cells(tmp_path / "own")
    assert len(predictions_of(tmp_path / "own", cell)) == cell.n


def test_a_run_given_twice_is_refused(runs: list[Path]) -> None:
    with pytest.raises(CaloraError, match="a run is given twice"):
        pooled([runs[0], runs[0]])


def test_rows_are_the_statistics_of_these_scores(runs: list[Path]) -> None:
    rows = {row.approach: row for row in comparison_rows(pooled(runs))}
    row, own, base = rows["low-rank-factors"], hits("low-rank-factors"), hits("multi-step")
    assert row.estimate.mean == pytest.approx(own.mean())
    assert (row.estimate.low, row.estimate.high) == bootstrap_interval(own)
    assert row.differences["multi-step"] == paired_difference(own, base)
    assert row.differences["multi-step"].mean == pytest.approx(own.mean() - base.mean())
    assert row.smallest["linear-tuned"] == smallest_detectable(own, hits("linear-tuned"))
    assert list(rows["multi-step"].differences) == ["linear-tuned"]


def test_a_tuned_merge_is_one_approach_whatever_its_strengths(runs: list[Path]) -> None:
    write_named_cell(runs[1], "linear-tuned", "Linear merge, tuned (factors 1/1)", answered(6, 1), seed=1)
    assert pooled(runs).titles["linear-tuned"] == "Linear merge, tuned"
    assert pooled(runs[:1]).titles["linear-tuned"] == "Linear merge, tuned (product 0.8/1)"


def test_the_tables_hold_the_same_figures(runs: list[Path]) -> None:
    pool = pooled(runs)
    console = Console(width=110, color_system=None)
    with console.capture() as capture:
        console.print(comparison_table(pool))
    text, marked = capture.get(), comparison_markdown(pool)
    assert "…" not in text
    for row in comparison_rows(pool):
        for found in row.differences.values():
            assert f"{found.mean:+.1f}" in text
            assert f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})" in marked
    assert "2 seeds (0, 1), 12 dialogues" in marked
    assert len({line.count("|") for line in marked.splitlines() if line.startswith("|")}) == 1


def test_other_dialogues_are_refused_by_run_and_approach(runs: list[Path]) -> None:
    turned = [EXAMPLES[1], EXAMPLES[0], *EXAMPLES[2:]]
    write_named_cell(runs[1], "multi-step", "Multi-step", answered(4), seed=1, examples=turned)
    with pytest.raises(CaloraError, match=r"one: multi-step has other test dialogues than .*zero: another order"):
        pooled(runs)
    write_named_cell(runs[1], "multi-step", "Multi-step", answered(4)[1:], seed=1, examples=EXAMPLES[1:])
    with pytest.raises(CaloraError, match=r"one: multi-step has other .*: arts-000") as error:
        pooled(runs)
    assert error.value.hint


@pytest.mark.parametrize("approach", ["multi-step", "zero-shot"])
def test_a_run_that_lacks_an_approach_is_named_with_it(runs: list[Path], approach: str) -> None:
    (runs[1] / f"cells/summary+es--{approach}--tiny--1.json").unlink()
    with pytest.raises(CaloraError, match=f"one lacks {approach}"):
        pooled(runs)


def test_runs_that_cannot_be_pooled_are_refused(
    runs: list[Path], write_run: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(CaloraError, match="no runs"):
        pooled([])
    with pytest.raises(CaloraError, match="holds no cells"):
        pooled([tmp_path])
    with pytest.raises(CaloraError, match=r"again has seed 1, as .*one has"):
        pooled([*runs, write_run("again", 1)])
    (runs[1] / "cells/summary+es--zero-shot--tiny--1.json").unlink()
    write_named_cell(runs[1], "zero-shot", "Zero-shot", answered(2), seed=1, backbone="other")
    with pytest.raises(CaloraError, match=r"one: zero-shot is summary\+es on other, expected summary\+es on tiny"):
        pooled(runs)


def test_damaged_predictions_are_named(runs: list[Path]) -> None:
    path = runs[0] / "predictions/summary+es--multi-step--tiny--0.jsonl"
    path.write_text(path.read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    with pytest.raises(CaloraError, match=r"multi-step--tiny--0.jsonl has 1 lines, its cell speaks of 12"):
        pooled(runs)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(CaloraError, match=r"multi-step--tiny--0.jsonl is not JSON lines"):
        pooled(runs)
    path.unlink()
    with pytest.raises(CaloraError, match=r"multi-step--tiny--0.jsonl cannot be read"):
        pooled(runs)
