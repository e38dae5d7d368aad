import pytest

from calora.judges.edits import change_detail, negate


@pytest.mark.parametrize(
    ("language", "text", "changed"),
    [
        ("en", "They meet on Friday at six.", "They meet on Saturday at six."),
        ("en", "Four tickets, please.", "Five tickets, please."),
        ("en", "It costs 19 euros.", "It costs 20 euros."),
        ("en", "see you monday", "see you tuesday"),
        ("en", "CLOSED ON SUNDAY", "CLOSED ON MONDAY"),
        ("de", "bis montag", "bis dienstag"),
        ("es", "El domingo llegan dos.", "El lunes llegan dos."),
        ("fr", "Rendez-vous mardi.", "Rendez-vous mercredi."),
        ("de", "Am Freitag um acht.", "Am Samstag um acht."),
        ("de", "Zwölf Eier.", "Zwanzig Eier."),
        ("en", "The weight of someone's bones.", None),
        ("it", "Due, tre.", None),
    ],
)
def test_a_detail_is_changed_where_there_is_one(language: str, text: str, changed: str | None) -> None:
    assert change_detail(text, language) == changed


@pytest.mark.parametrize(
    ("language", "text", "changed"),
    [
        ("en", "She doesn\u2019t like it.", "She does like it."),
        ("en", "I can't come.", "I can come."),
        ("en", "He will call.", "He will not call."),
        ("en", "Ana asks him to call.", "Ana asks him not to call."),
        ("es", "Ana no quiere ir.", "Ana quiere ir."),
        ("es", "Ana dice que llega tarde.", "Ana dice que no llega tarde."),
        ("fr", "Il ne veut pas venir.", "Il veut venir."),
        ("fr", "Elle n'a aucune envie.", "Elle a une envie."),
        ("fr", "Ana va partir.", "Ana ne va pas partir."),
        ("de", "Das geht nicht auf.", "Das geht auf."),
        ("de", "Keine Sorge.", "Eine Sorge."),
        ("de", "Ana will gehen.", "Ana will nicht gehen."),
        ("de", "Ana kommt morgen.", "Ana kommt morgen nicht."),
        ("en", "Fine.", None),
        ("it", "Non lo so.", None),
    ],
)
def test_a_negation_is_taken_out_or_put_in(language: str, text: str, changed: str | None) -> None:
    assert negate(text, language) == changed
