import pytest

from calora.corpus import Example, Record, make_examples
from calora.errors import CaloraError
from calora.judges.negatives import copied_turns, hard_negatives
from calora.judges.references import parts_of
from calora.tasks import Composition


def test_every_negative_differs_from_the_reference(records: list[Record]) -> None:
    for text in ("summary+es", "reply+casual", "summary+casual+fr"):
        composition = Composition.parse(text)
        examples = make_examples(records, composition, seed=3)
        for kind, answers in hard_negatives(records, composition, seed=3).items():
            assert len(answers) == len(records), kind
            for answer, example in zip(answers, examples, strict=True):
                assert answer != example.target, kind


def test_kinds_that_do_not_apply_are_left_out(records: list[Record]) -> None:
    kinds = hard_negatives(records, Composition.parse("summary+casual+fr"))
    assert {"neutral tone", "untranslated"} <= set(kinds)
    assert not {"other task", "constant"} & set(kinds)  # replies have no such reference
    kinds = hard_negatives(records, Composition.parse("reply+es"), constant=["Hola."] * len(records))
    assert "neutral tone" not in kinds
    assert kinds["constant"] == ["Hola."] * len(records)


def test_neighbours_are_of_the_same_domain_and_bear_the_own_names(records: list[Record]) -> None:
    composition = Composition.parse("summary+es")
    examples = make_examples(records, composition, seed=0)
    neighbours = hard_negatives(records, composition)["neighbour"]
    for example, neighbour in zip(examples, neighbours, strict=True):
        assert neighbour is not None
        assert all(name in neighbour for name in example.names)
    assert hard_negatives(records[:1], composition).get("neighbour") is None


def test_turns_are_copied_without_their_speakers(records: list[Record]) -> None:
    example = make_examples(records[:1], Composition.parse("reply+casual"), seed=0)[0]
    [copied] = hard_negatives(records[:1], Composition.parse("reply+casual"))["copied"]
    assert example.text.endswith(f": {copied}")
    [copied] = hard_negatives(records[:1], Composition.parse("summary+casual"))["copied"]
    first, second = example.text.splitlines()[:2]
    assert copied == f"{first.partition(': ')[2]} {second.partition(': ')[2]}"


def test_a_text_without_speakers_is_copied_as_it_stands(records: list[Record]) -> None:
    parts = parts_of(Composition.parse("summary+es"))
    article = Example("1", "all", "The ferry is late.\nAt noon it came.\nNobody knew why.", "x", ())
    assert copied_turns(article, parts) == "The ferry is late. At noon it came."


def test_what_cannot_be_made_is_refused(records: list[Record]) -> None:
    with pytest.raises(CaloraError, match="no references for reply\\+casual\\+fr"):
        hard_negatives(records, Composition.parse("reply+casual+fr"))
    with pytest.raises(CaloraError, match="no primary task"):
        hard_negatives(records, Composition.parse("es"))
    with pytest.raises(ValueError, match="zip"):
        hard_negatives(records, Composition.parse("reply"), constant=["Hi."])
