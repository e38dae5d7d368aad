import pytest

from calora.corpus import Example, Record, make_examples
from calora.errors import CaloraError
from calora.judges.offline import Verdict, judge_answers
from calora.judges.thresholds import Thresholds
from calora.judges.tone import train_tones
from calora.tasks import TASKS, Composition

SPANISH = Composition.parse("summary+es")


def lines(composition: str) -> Thresholds:
    return Thresholds(composition=composition, meaning=0.9, copied=0.5, meaning_accuracy=95, copied_accuracy=100)


@pytest.fixture
def examples(records: list[Record]) -> list[Example]:
    return make_examples(records[:2], SPANISH, seed=0)


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_the_references_pass(examples: list[Example]) -> None:
    verdicts = judge_answers([example.target for example in examples], examples, SPANISH, lines("summary+es"))
    assert [verdict.id for verdict in verdicts] == [example.id for example in examples]
    for verdict in verdicts:
        assert verdict.passed
        assert verdict.tasks == {"summary": True, "es": True}
        assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_each_answer_fails_by_the_check_that_is_meant(records: list[Record], examples: list[Example]) -> None:
    example, other = examples
    english = make_examples(records[:1], Composition.parse("summary"), seed=0)[0].target
    answers = [english, other.target, example.text, " ", f"{example.target} " * 8]
    wrong = judge_answers(answers, [example] * len(answers), SPANISH, lines("summary+es"))
    assert failed(wrong[0]) == {"language"}
    assert wrong[0].tasks == {"summary": True, "es": False}
    assert failed(wrong[1]) == {"meaning"}
    assert wrong[1].tasks == {"summary": False, "es": True}
    assert failed(wrong[2]) >= {"language", "copied", "length"}
    assert failed(wrong[3]) >= {"words", "language", "meaning"}
    assert wrong[3].tasks == {"summary": False, "es": False}
    assert "length" in failed(wrong[4])


def test_a_tone_is_asked_for(records: list[Record]) -> None:
    casual = Composition.parse("reply+casual")
    tones = train_tones([record for record in records for _ in range(3)], TASKS["reply"])
    examples = make_examples(records[:2], casual, seed=0)
    neutral = make_examples(records[:2], Composition.parse("reply"), seed=0)
    answers = [examples[0].target, neutral[1].target]
    right, wrong = judge_answers(answers, examples, casual, lines("reply+casual"), tones=tones)
    assert right.passed
    assert not any(check.name == "length" for check in right.checks)
    assert "tone" in failed(wrong)
    assert not wrong.tasks["casual"]
    assert {check.value for check in wrong.checks if check.name == "tone"} == {"neutral"}


def test_bad_input_is_refused(records: list[Record], examples: list[Example]) -> None:
    with pytest.raises(CaloraError, match="for summary\\+fr, not summary\\+es"):
        judge_answers(["Hola."] * 2, examples, SPANISH, lines("summary+fr"))
    with pytest.raises(CaloraError, match="no primary task"):
        judge_answers(["Hola."] * 2, examples, Composition.parse("es"), lines("es"))
    with pytest.raises(ValueError, match="zip"):
        judge_answers(["Hola."], examples, SPANISH, lines("summary+es"))
    humorous = Composition.parse("summary+humorous+fr")
    french = train_tones(records * 3, TASKS["summary"], TASKS["fr"])
    with pytest.raises(CaloraError, match="'humorous'"):
        judge_answers(["Salut."] * 2, examples, humorous, lines("summary+humorous+fr"), tones=french)
