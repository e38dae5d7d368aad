import pytest

from calora.corpus import Record, load_everyday
from calora.errors import CaloraError
from calora.judges.references import TONES
from calora.judges.tone import NEUTRAL, cross_validate_tones, train_tones
from calora.tasks import TASKS, Task


@pytest.fixture(scope="module")
def some() -> list[Record]:
    """Thirty training records of each of four domains."""
    by_domain = {
        domain: [record for record in load_everyday("train") if record.domain == domain][:30]
        for domain in ("arts", "food", "trip", "work")
    }
    return [record for records in by_domain.values() for record in records]


def test_tones_of_domains_that_were_left_out(some: list[Record]) -> None:
    found = cross_validate_tones(some, TASKS["summary"])
    assert found.majority == pytest.approx(20)
    assert found.accuracy > 70  # 93 on the whole training split
    assert set(found.recall) == {NEUTRAL, *(tone.name for tone in TONES)}
    assert sum(found.recall.values()) / 5 == pytest.approx(found.accuracy)


def test_a_language_has_the_tones_of_its_references(some: list[Record]) -> None:
    classifier = train_tones(some, TASKS["summary"], TASKS["fr"])
    assert classifier.tones == (NEUTRAL, "casual")
    assert classifier.name([], []) == []
    with pytest.raises(CaloraError, match="reply in French"):
        train_tones(some, TASKS["reply"], TASKS["fr"])


def test_a_tone_of_ones_own_is_learnt(some: list[Record]) -> None:
    own = Task("formal", "tone", "Be formal.", "be formal.", "formal", field="professional")
    unknown = Task("sad", "tone", "Be sad.", "be sad.", "sad")
    assert train_tones(some, TASKS["summary"], None, [own, unknown]).tones == (NEUTRAL, "formal")


def test_the_speakers_names_do_not_change_the_tone(some: list[Record]) -> None:
    classifier = train_tones(some[:30], TASKS["reply"])
    texts = ["{} reckons {}'s totally up for it, yeah!".format(*pair) for pair in (("Ana", "Tom"), ("Zoe", "Igor"))]
    assert classifier.name(texts, [("Ana", "Tom"), ("Zoe", "Igor")]) == ["casual"] * 2
