import math
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from calora.errors import CaloraError
from calora.metrics import RougeTokenizer, rouge

TYPES = ["rouge1", "rouge2", "rouge3", "rougeL"]
WORDS = st.lists(st.sampled_from(["ana", "reunión", "plan", "für", "déjà", "vu"]), max_size=12).map(" ".join)
TOKENIZERS: tuple[RougeTokenizer, ...] = ("unicode", "paper")


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("The quick brown fox jumps over the lazy dog.", "The quick brown dog jumps on the log."),
        ("Ana propone una reunión mañana a las diez.", "Tom pide la reunión de mañana, a las diez."),
        ("Grüße für Zoë", "Gruße für Zoe"),
        ("", "not empty"),
        ("short", "short"),
    ],
)
def test_paper_tokenizer_is_the_default_of_rouge_score(prediction: str, reference: str) -> None:
    theirs: dict[str, Any] = RougeScorer(TYPES).score(reference, prediction)
    ours = rouge(prediction, reference, tokenizer="paper")
    assert {name: ours[name] for name in TYPES} == {name: 100 * theirs[name].fmeasure for name in TYPES}


def test_unicode_agrees_with_paper_on_ascii() -> None:
    pair = ("Ben can't find snake_case files, 3 of 10!", "ben CAN find 3 snake_case files")
    assert rouge(*pair) == rouge(*pair, tokenizer="paper")


def test_unicode_keeps_an_accented_word_whole() -> None:
    # The paper's tokenizer sees "reuni" and "n" on both sides of the first pair, and half of it in the second.
    assert rouge("reunión", "reunión")["rouge2"] == 0.0
    assert rouge("reunión", "reunión", tokenizer="paper")["rouge2"] == 100.0
    assert rouge("reunión", "reunian")["rouge1"] == 0.0
    assert rouge("mañana", "maána")["rouge1"] == 0.0
    assert rouge("mañana", "maúana", tokenizer="paper")["rouge1"] == 100.0


def test_unicode_ignores_case_and_normal_form() -> None:
    assert rouge(unicodedata.normalize("NFD", "LA REUNIÓN ACABÓ"), "la reunión acabó")["rougeL"] == 100.0


def test_weighted_on_a_count_by_hand() -> None:
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples; lengths are equal, so F is the share.
    scores = rouge("a b c d", "a b c e")
    assert scores["rouge1"] == pytest.approx(75)
    assert scores["rouge2"] == pytest.approx(200 / 3)
    assert scores["rouge3"] == pytest.approx(50)
    assert scores["weighted"] == pytest.approx(75 / 6 + 200 / 9 + 25)


@given(WORDS, WORDS, st.sampled_from(TOKENIZERS))
def test_symmetric_and_within_bounds(first: str, second: str, tokenizer: RougeTokenizer) -> None:
    there, back = rouge(first, second, tokenizer=tokenizer), rouge(second, first, tokenizer=tokenizer)
    assert all(math.isclose(there[name], back[name]) for name in there)
    assert all(0 <= value <= 100 + 1e-9 for value in there.values())


@given(st.lists(st.sampled_from(["ana", "reunión", "für"]), min_size=3, max_size=12).map(" ".join))
def test_a_text_against_itself_is_perfect(text: str) -> None:
    assert all(math.isclose(value, 100) for value in rouge(text, text).values())


def test_unknown_tokenizer_is_refused() -> None:
    with pytest.raises(CaloraError, match="Paper"):
        rouge("a", "a", tokenizer="Paper")  # type: ignore[arg-type]
