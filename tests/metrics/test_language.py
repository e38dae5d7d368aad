import pytest

from calora.errors import CaloraError
from calora.metrics import LANGUAGES, detect_language, in_language


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_shipped_summaries_are_in_their_language(summaries: list[dict[str, str]], code: str) -> None:
    detected = [detect_language(row[code].format(A="Marta", B="James")) for row in summaries]
    assert detected == [code] * len(summaries)


def test_another_language_is_not_the_one_asked_for(summaries: list[dict[str, str]]) -> None:
    text = summaries[0]["fr"].format(A="Marta", B="James")
    assert [code for code in LANGUAGES if in_language(text, code)] == ["fr"]


@pytest.mark.parametrize("text", ["", " \n", "12 ... 34"])
def test_a_text_without_words_is_in_no_language(text: str) -> None:
    assert detect_language(text) is None
    assert not in_language(text, "en")


def test_unknown_code_is_refused() -> None:
    with pytest.raises(CaloraError, match="'tlh'"):
        in_language("nuqneH", "tlh")


def test_a_language_beyond_the_corpus_is_told_from_its_four() -> None:
    assert in_language("Ci vediamo domani sera davanti alla stazione, porto io i biglietti.", "it")
    assert not in_language("Nos vemos mañana por la tarde delante de la estación.", "it")
