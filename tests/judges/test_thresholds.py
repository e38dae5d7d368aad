from typing import Any

import numpy as np
import pytest

from calora.corpus import Record, load_everyday
from calora.errors import CaloraError
from calora.judges.thresholds import best_line, choose_thresholds
from calora.tasks import Composition


def test_the_line_lies_in_the_middle_of_the_gap() -> None:
    assert best_line([0.9, 0.8], [0.1, 0.4]) == (pytest.approx(0.6), 100)
    line, accuracy = best_line([0.9, 0.7, 0.3], [0.1, 0.4])
    assert line == pytest.approx(0.55)
    assert accuracy == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert best_line([0.5], [0.5])[1] == 50


def test_no_other_line_is_better() -> None:
    random = np.random.default_rng(0)
    high, low = random.normal(0.6, 0.2, 50), random.normal(0.4, 0.2, 80)
    _, accuracy = best_line(list(high), list(low))
    tried = [50 * ((high > line).mean() + (low < line).mean()) for line in np.linspace(-0.5, 1.5, 4001)]
    assert accuracy == pytest.approx(max(tried), abs=1e-9)


def test_without_paraphrases_in_the_language_the_english_reference_stands_in(records: list[Record]) -> None:
    found = choose_thresholds(records, Composition.parse("reply+de"))
    assert found.composition == "reply+de"
    assert 0.8 < found.meaning < 1
    assert found.meaning_accuracy > 90
    assert 0 < found.copied < 1
    assert found.copied_accuracy == 100


def test_what_thresholds_need(records: list[Record]) -> None:
    with pytest.raises(CaloraError, match="no neighbours"):
        choose_thresholds(records[:1], Composition.parse("reply+de"))
    with pytest.raises(CaloraError, match="no references for reply\\+casual\\+fr"):
        choose_thresholds(records, Composition.parse("reply+casual+fr"))
    with pytest.raises(CaloraError, match="no primary task"):
        choose_thresholds(records, Composition.parse("de"))


def test_lines_are_drawn_between_paraphrases_and_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [r for d in ("arts", "food") for r in [r for r in load_everyday("validation") if r.domain == d][:3]]
    asked: list[Any] = []

    def near(answers: Any, references: Any, names: Any, *, threads: int) -> list[float]:
        asked.append(list(zip(answers, references, names, strict=True)))
        return [float(len(asked) == 1)] * len(answers)

    monkeypatch.setattr("calora.judges.thresholds.similarities", near)
    choose_thresholds(records, Composition.parse("summary+es"))
    positives, negatives = asked
    assert positives and all(answer != own for answer, own, _ in positives)
    assert len(negatives) == 6 * 2
    assert {len(names) for _, _, names in (*positives, *negatives)} == {4}
