from pathlib import Path

import numpy as np
import pytest

from calora.bench.case import Case, Workplace
from calora.report.reading import read_results
from calora.report.results import category, paired_scores, scores_of
from calora.tasks import Composition

from .bench_runs import (
    BACKBONE,
    COMPOSITIONS,
    DIALOGUES,
    SEEDS,
    answers,
    cell_path,
    hits,
    recipe,
    write_answers,
    write_bench_run,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_bench_run(tmp_path / "bench")


def test_a_composition_with_fewer_seeds_counts_as_much(run: Path) -> None:
    cell_path(run, "multi-step", "summary+es", 1).unlink()
    table = scores_of(read_results(run), "multi-step", "retrieval")
    assert table.shape == (3, DIALOGUES)
    assert np.array_equal(table[0], hits("multi-step", "summary+es", 0))
    assert np.array_equal(table[1], sum(hits("multi-step", "reply+casual", seed) for seed in SEEDS) / 2)


def test_a_run_of_secondary_tasks_alone_has_domains(tmp_path: Path) -> None:
    asked = recipe(compositions=["casual+fr"], approaches=["multi-step"], search=None)
    place = Workplace(asked)
    examples = Case(place, BACKBONE, asked.parse("casual+fr"), 0).evaluation_examples("test")
    good = np.full(len(examples), 100.0)
    write_answers(tmp_path, place, examples, answers(examples, good), ("multi-step", "Multi-step", "casual+fr", 0))
    (tmp_path / "recipe.json").write_text(asked.model_dump_json(), encoding="utf-8")
    results = read_results(tmp_path)
    assert results.domains == [example.domain for example in examples]


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
