import pytest

from calora.judges.copying import copied_share

DIALOGUE = "Ann: Could you call me about the concert tonight?\nBob: Of course, I will do it after work."


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("Could you call me about the concert tonight?", 1.0),
        ("of course i will DO it after work", 1.0),
        ("Ann asks Bob about a call on tonight's concert.", 0.0),
        ("Bob says I will do it", 4 / 6),
        ("after work", 1.0),
        ("before work", 0.0),
        ("", 0.0),
        ("?!", 0.0),
    ],
)
def test_only_runs_of_words_count(answer: str, share: float) -> None:
    assert copied_share(answer, DIALOGUE) == pytest.approx(share)


def test_nothing_is_copied_from_nothing() -> None:
    assert copied_share("Of course.", "") == 0.0
