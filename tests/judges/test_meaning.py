import numpy as np
import pytest

from calora.judges.meaning import embed, similarities

ENGLISH = "Ana asks Tom to water her plants while she is away in June."
SPANISH = "Ana le pide a Tom que riegue sus plantas mientras está fuera en junio."
OTHER = "Tom le vende a Ana una bicicleta usada por sesenta euros."
NAMES = ("Ana", "Tom")


def test_vectors_have_length_one_and_do_not_depend_on_the_batch() -> None:
    both = embed([ENGLISH, SPANISH])
    assert both.shape == (2, 384)
    assert both.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(embed([SPANISH])[0], both[1])
    assert embed([]).shape == (0, 384)


def test_a_translation_is_nearer_than_another_text_of_its_language() -> None:
    same, translated, other = similarities([SPANISH, ENGLISH, OTHER], [SPANISH] * 3, [NAMES] * 3)
    assert same == pytest.approx(1, abs=1e-5)
    assert other < translated < same


def test_names_earn_nothing() -> None:
    swapped = SPANISH.replace("Ana", "?").replace("Tom", "Ana").replace("?", "Tom")
    assert similarities([swapped], [SPANISH], [NAMES]) == pytest.approx([1], abs=1e-5)
    assert similarities(["Ana, Tom!", ""], [SPANISH] * 2, [NAMES] * 2) == [0, 0]


def test_a_nul_does_not_end_the_text() -> None:
    np.testing.assert_array_equal(embed(["a cat\0and a dog"]), embed(["a cat and a dog"]))


def test_as_many_answers_as_references() -> None:
    with pytest.raises(ValueError, match="zip"):
        similarities([ENGLISH], [], [NAMES])
