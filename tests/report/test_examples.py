from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from calora.errors import CaloraError
from calora.report import read_cells, sample_answers, show_answers

from .conftest import EXAMPLES, answered, write_named_cell


def test_samples_are_spread_over_the_domains_and_the_same_each_time(write_run: Callable[..., Path]) -> None:
    run = write_run()
    cells = read_cells(run)
    samples = sample_answers(run, cells)
    assert [sample.id for sample in samples] == ["arts-000", "food-000", "work-000"]
    assert samples == sample_answers(run, cells)
    assert [sample.id for sample in sample_answers(run, cells, 4)][-1] == "arts-001"
    assert len(sample_answers(run, cells, 99)) == len(EXAMPLES)


def test_a_sample_has_every_approachs_answer_to_its_dialogue(write_run: Callable[..., Path]) -> None:
    run = write_run()
    cells = read_cells(run)
    sample = sample_answers(run, cells)[1]
    assert (sample.dialogue, sample.reference) == (EXAMPLES[4].text, EXAMPLES[4].target)
    assert dict(sample.answers)["Multi-step"] == answered(10)[4].text
    assert [title for title, _ in sample.answers][-1].startswith("control:")
    assert not any(title.startswith("es:") for title, _ in sample.answers)


def test_an_older_cell_without_the_dialogue_is_named(write_run: Callable[..., Path]) -> None:
    run = write_run()
    write_named_cell(run, "multi-step", "Multi-step", answered(4)[4:], examples=EXAMPLES[4:])
    with pytest.raises(CaloraError, match="multi-step did not answer arts-000"):
        sample_answers(run, read_cells(run))


def test_answers_are_printed_as_they_are(write_run: Callable[..., Path]) -> None:
    run = write_run()
    answers = answered(2)
    answers[0] = answers[0].__class__("[red]no markup[/red]", 1, False, 0.1)
    answers[4] = answers[4].__class__("", 0, False, 0.1)
    write_named_cell(run, "zero-shot", "Zero-shot", answers)
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        show_answers(console, sample_answers(run, read_cells(run)))
    text = capture.get()
    assert "[red]no markup[/red]" in text
    assert "(empty)" in text
    assert "food  food-000" in text
