import pytest

from calora.approaches.control import constant_sentence
from calora.corpus import load_everyday, make_examples, neighbour_targets
from calora.tasks import Composition


@pytest.mark.parametrize("composition", ["summary+es", "reply+de", "summary+casual+fr"])
def test_the_constant_sentence_is_one_reference_under_each_dialogues_names(composition: str) -> None:
    train = make_examples(load_everyday("train"), Composition.parse(composition), seed=0)
    test = make_examples(load_everyday("test"), Composition.parse(composition), seed=0)[:10]
    answers = constant_sentence(train, [example.names for example in test])
    if composition.startswith("reply"):  # replies seldom name anybody
        assert len(set(answers)) == 1
    else:
        assert all(name in answer for answer, example in zip(answers, test, strict=True) for name in example.names)
    plain = {
        answer.replace(example.names[0], "A").replace(example.names[1], "B")
        for answer, example in zip(answers, test, strict=True)
    }
    assert len(plain) == 1


def test_a_neighbours_reference_is_of_the_same_domain_under_this_dialogues_names() -> None:
    examples = make_examples(load_everyday("test"), Composition.parse("summary+es"), seed=0)
    for example, answer in zip(examples, neighbour_targets(examples), strict=True):
        assert answer != example.target
        others = [other for other in examples if other.domain == example.domain and other is not example]
        assert any(
            answer
            == other.target.replace(other.names[0], "\0")
            .replace(other.names[1], example.names[1])
            .replace("\0", example.names[0])
            for other in others
        )
