import pytest

from calora.metrics import chrf, mask_names, retrieval_chance, retrieval_hits

SIZE = 6
GROUPS = [group for group in "abcd" for _ in range(SIZE)]


@pytest.fixture
def references(summaries: list[dict[str, str]]) -> list[str]:
    return [mask_names(row["es"].format(A="Ana", B="Tom"), ["Ana", "Tom"]) for row in summaries[: len(GROUPS)]]


def test_own_references_all_hit(references: list[str]) -> None:
    assert retrieval_hits(references, references, GROUPS) == [True] * len(GROUPS)


def test_references_of_a_neighbour_in_the_group_all_miss(references: list[str]) -> None:
    starts = range(0, len(references), SIZE)
    rotated = [
        text for start in starts for text in references[start + 1 : start + SIZE] + references[start : start + 1]
    ]
    assert retrieval_hits(rotated, references, GROUPS) == [False] * len(GROUPS)


def test_a_constant_answer_hits_at_most_once_a_group(references: list[str]) -> None:
    hits = retrieval_hits(["Hablan de un problema y proponen una solución."] * len(GROUPS), references, GROUPS)
    assert 100 * sum(hits) / len(hits) == pytest.approx(retrieval_chance(GROUPS))


def test_only_the_own_group_competes() -> None:
    predictions, references = ["uno", "uno"], ["uno y dos", "uno"]
    assert retrieval_hits(predictions, references, ["a", "a"]) == [False, True]
    assert retrieval_hits(predictions, references, ["a", "b"]) == [True, True]


def test_ties_and_empty_answers_miss() -> None:
    assert retrieval_hits(["uno", "uno", "dos"], ["uno", "uno", "dos"], ["a"] * 3) == [False, False, True]
    assert retrieval_hits(["zzz", "dos"], ["uno", "dos"], ["a"] * 2) == [False, True]
    assert retrieval_hits(["", " \n"], ["uno", "dos"], ["a", "b"]) == [False, False]


def test_the_score_gets_prediction_then_reference() -> None:
    asked: list[tuple[str, str]] = []

    def score(prediction: str, reference: str) -> float:
        asked.append((prediction, reference))
        return chrf(prediction, reference)

    retrieval_hits(["p0", "p1"], ["r0", "r1"], ["a", "a"], score)
    assert set(asked) == {(prediction, reference) for prediction in ("p0", "p1") for reference in ("r0", "r1")}


def test_chance() -> None:
    assert retrieval_chance(["a"] * 4) == pytest.approx(25)
    # Three at 1/3 and one at 1: as many sure hits as groups.
    assert retrieval_chance(["a", "a", "b", "a"]) == pytest.approx(50)


def test_bad_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 references"):
        retrieval_hits(["p"], ["r", "s"], ["a"])
    with pytest.raises(ValueError, match="no items"):
        retrieval_chance([])
