import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.metrics import mask_names


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("Ana tells Tom a plan.", ["Ana", "Tom"], "tells a plan."),
        ("Ana's plan and Tom\u2019s plan", ["Ana", "Tom"], "plan and plan"),
        ("Anabel and Susana like Ana", ["Ana"], "Anabel and Susana like"),
        ("McTom and LauraAna like Ana", ["Ana", "Tom"], "McTom and LauraAna like"),
        ("Anaïs ana ANA Ana_1", ["Ana"], "Anaïs ana ANA Ana_1"),
        ("Ana María llama a María", ["Ana", "Ana María"], "llama a María"),
        ("(Ana) «Tom» d'Ana", ["Ana", "Tom"], "( ) « » d'"),
        ("J.R. waits; JxRx too", ["J.R."], "waits; JxRx too"),
        ("  much \n space\t", [], "much space"),
        ("kept whole", ["", " "], "kept whole"),
    ],
)
def test_examples(text: str, names: list[str], expected: str) -> None:
    assert mask_names(text, names) == expected


def test_normal_forms_are_the_same() -> None:
    decomposed = unicodedata.normalize("NFD", "José y Jose")
    assert mask_names(decomposed, ["José"]) == "y Jose"
    assert mask_names(decomposed, ["Jose"]) == "José y"


@given(st.lists(st.sampled_from(["Ana", "Tom's", "Anabel", "plan", ",", "\n"])).map(" ".join))
def test_no_name_is_left_and_nothing_else_is_lost(text: str) -> None:
    left = mask_names(text, ["Ana", "Tom"]).split()
    assert left == [word for word in text.split() if word not in ("Ana", "Tom's")]
