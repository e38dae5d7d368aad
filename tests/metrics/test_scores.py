import pytest

from calora.errors import CaloraError
from calora.metrics import chrf, mask_names, rouge, score_answers

NAMES = [("Ana", "Tom"), ("Lucía", "Ben"), ("Marta", "James")] * 8
GROUPS = [group for group in "abcd" for _ in range(6)]


@pytest.fixture
def references(summaries: list[dict[str, str]]) -> list[str]:
    return [row["es"].format(A=a, B=b) for row, (a, b) in zip(summaries[: len(NAMES)], NAMES, strict=True)]


def test_the_references_themselves_are_perfect(references: list[str]) -> None:
    means = score_answers(references, references, NAMES, GROUPS, "es").means
    assert means.pop("empty") == 0.0
    assert means == pytest.approx(dict.fromkeys(means, 100.0))
    overlaps = {"rouge1", "rouge2", "rouge3", "rougeL", "weighted", "chrf"}
    assert set(means) == overlaps | {f"masked_{name}" for name in overlaps} | {"retrieval", "in_language"}


def test_a_constant_sentence_with_the_right_names_gains_nothing_by_them(references: list[str]) -> None:
    constant = [f"{a} y {b} hablan de un problema y {b} le propone una solución a {a}." for a, b in NAMES]
    scores = score_answers(constant, references, NAMES, GROUPS, "es")
    assert scores.means["masked_rougeL"] < scores.means["rougeL"] - 3
    assert scores.chance == pytest.approx(100 / 6)
    assert scores.means["retrieval"] == pytest.approx(scores.chance)


def test_rows_hold_each_measure_of_their_dialogue(references: list[str]) -> None:
    answer = "Ana\u2019s plan: Tom repite la reunión, sí."
    row = score_answers([answer], references[:1], [("Ana", "Tom")], ["a"], "es", rouge_tokenizer="paper").rows[0]
    masked = mask_names(answer, NAMES[0]), mask_names(references[0], NAMES[0])
    assert row["rougeL"] == rouge(answer, references[0], tokenizer="paper")["rougeL"]
    assert row["chrf"] == chrf(answer, references[0])
    assert row["masked_weighted"] == rouge(*masked, tokenizer="paper")["weighted"]
    assert row["masked_chrf"] == chrf(*masked)


def test_empty_and_foreign_answers(references: list[str], summaries: list[dict[str, str]]) -> None:
    answers = [" \n", summaries[1]["en"].format(A="Lucía", B="Ben"), references[2]]
    scores = score_answers(answers, references[:3], NAMES[:3], GROUPS[:3], "es")
    assert [row["empty"] for row in scores.rows] == [100, 0, 0]
    assert [row["in_language"] for row in scores.rows] == [0, 0, 100]
    assert scores.rows[0]["retrieval"] == scores.rows[0]["rougeL"] == 0.0
    assert scores.means["empty"] == pytest.approx(100 / 3)


def test_an_answer_of_names_only_is_not_empty_but_retrieves_nothing() -> None:
    row = score_answers(["Ana, Tom"], ["Ana llama a Tom"], [("Ana", "Tom")], ["a"], "es").rows[0]
    assert (row["empty"], row["masked_rougeL"], row["retrieval"]) == (0.0, 0.0, 0.0)
    assert row["rougeL"] > 0


def test_bad_input_is_refused(references: list[str]) -> None:
    with pytest.raises(ValueError, match="1 predictions, 24 references"):
        score_answers(["hola"], references, NAMES, GROUPS, "es")
    with pytest.raises(ValueError, match="0 predictions"):
        score_answers([], [], [], [], "es")
    with pytest.raises(CaloraError, match="'tlh'"):
        score_answers(["hola"], ["hola"], [("Ana", "Tom")], ["a"], "tlh")
