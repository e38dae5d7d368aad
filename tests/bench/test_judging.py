from pathlib import Path
from typing import Any

import pytest

from calora.bench import judging
from calora.bench.case import EVALUATION_SEED, Workplace
from calora.bench.cells import cell_stem, read_cell, read_predictions, write_cell
from calora.bench.judging import _learnt_from, judge_run
from calora.bench.recipe import Recipe
from calora.corpus import TextRecord, load_everyday, make_examples, spread
from calora.errors import CaloraError
from calora.generation import Answer
from calora.judges import Thresholds
from calora.storage import write_text
from calora.tasks import Composition

COMPOSITION = Composition.parse("summary+casual")
RECIPE = Recipe.model_validate(
    {
        "backbones": ["tiny"],
        "compositions": [str(COMPOSITION)],
        "approaches": ["zero-shot", "multi-step"],
        "data": {"validation": 6, "test": 6},
    }
)


def write(run: Path, approach: str, texts: list[str], composition: Composition = COMPOSITION) -> Path:
    examples = make_examples(spread(load_everyday("test"), 6), composition, seed=EVALUATION_SEED)
    head = {"composition": str(composition), "approach": approach, "title": approach, "backbone": "tiny", "seed": 0}
    path = run / "cells" / f"{cell_stem(str(composition), approach, 'tiny', 0)}.json"
    answers = [Answer(text, 1, False, 0.0) for text in texts]
    write_cell(path, examples[: len(texts)], answers, composition.language, head, 1, 0, texts=False)
    return path


def test_verdicts_stand_beside_the_scores_and_are_given_once(tmp_path: Path) -> None:
    write_text(tmp_path / "recipe.json", RECIPE.model_dump_json())
    examples = make_examples(spread(load_everyday("test"), 6), COMPOSITION, seed=EVALUATION_SEED)
    good = write(tmp_path, "multi-step", [example.target for example in examples])
    bad = write(tmp_path, "zero-shot", ["", examples[1].text, "¡Hola! Todo va bien.", *("Yes." for _ in range(3))])
    own = write(tmp_path, "own", ["x"] * 6, Composition.parse("summary"))
    left = write(tmp_path, "linear", ["x"] * 6)  # of a task that the recipe no longer has
    left.write_text(left.read_text().replace("summary+casual", "summary+shout"))
    asked: list[str] = []
    cells = {cell.approach: cell for cell in judge_run(tmp_path, asked.append)}
    assert sorted(asked) == ["multi-step on summary+casual", "zero-shot on summary+casual"]
    assert cells.keys() == {"multi-step", "zero-shot"}
    assert "judge" not in read_cell(own).scores
    assert cells["multi-step"].scores["judge"] > 60
    assert cells["zero-shot"].scores["judge"] == 0
    for path in (good, bad):
        rows, cell = read_predictions(path), read_cell(path)
        for name in ("judge", "judge_summary", "judge_casual"):
            assert cell.scores[name] == pytest.approx(sum(row["scores"][name] for row in rows) / len(rows), abs=1e-3)
    before = good.read_text()
    asked.clear()
    judge_run(tmp_path, asked.append)
    assert asked == []
    assert good.read_text() == before


def test_other_references_in_another_tone_are_judged_by_another_classifier(tmp_path: Path) -> None:
    """The classifier tells all tones apart, and so learns from dialogues that the composition has no reference for."""

    def made_by(humorous: str) -> Any:
        path = tmp_path / "records.jsonl"
        records = []
        for split, count in (("train", 8), ("validation", 4), ("test", 4)):
            for n in range(count):
                tone = "casual" if split != "train" or n % 2 else "humorous"
                said = {"casual": f"hey, thing {n}!", "humorous": f"{humorous} {n}, ha"}[tone]
                targets = {"summary": {"en": f"Ann tells of thing {n}.", tone: said}}
                text = f"Ann: thing {n} {split} of all that there is to tell\nBen: I see, and what of it today?"
                records.append(TextRecord(id=f"{split}{n}", split=split, text=text, targets=targets))  # type: ignore[arg-type]
        path.write_text("".join(f"{record.model_dump_json()}\n" for record in records), encoding="utf-8")
        recipe = RECIPE.model_copy(update={"data": RECIPE.data.model_copy(update={"records": (path,)})})
        return _learnt_from(Workplace(recipe), COMPOSITION)

    assert made_by("a joke") == made_by("a joke")
    assert made_by("a joke") != made_by("a pun")


def test_a_cell_that_is_made_again_meanwhile_keeps_its_own_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "recipe.json", RECIPE.model_dump_json())
    examples = make_examples(spread(load_everyday("test"), 6), COMPOSITION, seed=EVALUATION_SEED)
    path = write(tmp_path, "multi-step", [example.target for example in examples])
    judge = judging.judge_answers

    def slow(*given: Any, **named: Any) -> Any:
        write(tmp_path, "multi-step", ["x"] * 6)
        return judge(*given, **named)

    monkeypatch.setattr(judging, "judge_answers", slow)
    with pytest.raises(CaloraError, match="made again meanwhile"):
        judge_run(tmp_path)
    assert "judge" not in read_cell(path).scores
    assert [row["answer"] for row in read_predictions(path)] == ["x"] * 6


def test_an_answer_to_another_dialogue_is_named(tmp_path: Path) -> None:
    smaller = RECIPE.model_copy(update={"data": RECIPE.data.model_copy(update={"test": 3})})
    write_text(tmp_path / "recipe.json", smaller.model_dump_json())
    write(tmp_path, "multi-step", ["x"] * 6)
    with pytest.raises(CaloraError, match="which is not in the run's test split"):
        judge_run(tmp_path)


def test_tones_are_learnt_in_each_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("summary+casual", "summary+casual+fr")
    write_text(tmp_path / "recipe.json", RECIPE.model_copy(update={"compositions": names}).model_dump_json())
    for name in names:
        write(tmp_path, "multi-step", ["x"] * 6, Composition.parse(name))
    learnt: list[Any] = []
    lines = Thresholds(composition="any", meaning=0.9, copied=0.5, meaning_accuracy=90, copied_accuracy=90)
    monkeypatch.setattr(judging, "_thresholds", lambda *given: lines)
    monkeypatch.setattr(judging, "train_tones", lambda records, primary, language, tones: learnt.append(language))
    monkeypatch.setattr(judging, "_judge", lambda path, cell, *given: cell)
    judging.judge_run(tmp_path)
    assert {language and language.name for language in learnt} == {None, "fr"}


def test_thresholds_are_drawn_again_for_other_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def choose(records: Any, composition: Composition) -> Thresholds:
        drawn.append(len(records))
        return Thresholds(
            composition=str(composition), meaning=0.9, copied=0.5, meaning_accuracy=90, copied_accuracy=90
        )

    monkeypatch.setattr(judging, "choose_thresholds", choose)
    for wanted in (6, 6, 9):
        data = RECIPE.data.model_copy(update={"validation": wanted})
        judging._thresholds(tmp_path, Workplace(RECIPE.model_copy(update={"data": data})), COMPOSITION)
    assert drawn == [6, 9]
