from pathlib import Path

import numpy as np
import pytest

from calora.report.reading import read_results
from calora.report.results import category, paired_scores, scores_of
from calora.tasks import Composition

from .bench_runs import COMPOSITIONS, DIALOGUES, SEEDS, cell_path, hits, write_bench_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_bench_run(tmp_path / "bench")


def test_a_composition_with_fewer_seeds_counts_as_much(run: Path) -> None:
    cell_path(run, "multi-step", "summary+es", 1).unlink()
    table = scores_of(read_results(run), "multi-step", "retrieval")
    assert table.shape == (3, DIALOGUES)
    assert np.array_equal(table[0], hits("multi-step", "summary+es", 0))
    assert np.array_equal(table[1], sum(hits("multi-step", "reply+casual", seed) for seed in SEEDS) / 2)


def test_rows_are_paired_on_what_both_have(run: Path) -> None:
    cell_path(run, "multi-step", "summary+es", 1).unlink()
    first, second = paired_scores(read_results(run), ("linear (tuned)", "multi-step"), "retrieval")
    assert first.shape == second.shape == (2, DIALOGUES)
    assert np.array_equal(first[0], hits("linear (tuned)", "summary+es", 0))
    assert np.array_equal(second[0], hits("multi-step", "summary+es", 0))
    for label in ("multi-step",):
        for seed in SEEDS:
            for name in COMPOSITIONS[:2]:
                cell_path(run, label, name, seed).unlink(missing_ok=True)
    assert paired_scores(read_results(run), ("linear (tuned)", "multi-step"), "retrieval")[0].size == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("summary+fr", "summary+translation"),
        ("reply+narrative", "reply+tone"),
        ("reply+casual+de", "three tasks"),
        ("casual+fr", "tone+translation"),
        ("summary", "summary"),
    ],
)
def test_categories_are_those_of_the_paper(name: str, expected: str) -> None:
    assert category(Composition.parse(name)) == expected
