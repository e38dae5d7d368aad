import pytest
import sacrebleu

from calora.metrics import chrf

PAIRS = [
    ("Ana propone una reunión mañana.", "Tom pide la reunión de mañana."),
    ("Grüße an alle", "Viele Grüße an alle!"),
    ("a", "ab"),
    ("", "nada"),
    ("nada", ""),
]


@pytest.mark.parametrize(("prediction", "reference"), PAIRS)
def test_equals_sacrebleu(prediction: str, reference: str) -> None:
    assert chrf(prediction, reference) == sacrebleu.sentence_chrf(prediction, [reference]).score


def test_bounds_and_stripping() -> None:
    assert chrf("\n la reunión  ", "la reunión") == pytest.approx(100)
    assert chrf("xyz", "abc") == 0.0
    assert chrf("  ", "abc") == 0.0


def test_prediction_and_reference_are_not_exchanged() -> None:
    # beta 2 weighs recall: leaving out is worse than adding.
    assert chrf("la reunión de mañana", "la reunión") > chrf("la reunión", "la reunión de mañana")
