from collections.abc import Callable
from pathlib import Path

import pytest

from calora.approaches.control import ceiling, constant_sentence
from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
from calora.corpus import TextRecord, load_everyday, make_examples, neighbour_targets
from calora.errors import CaloraError
from calora.tasks import Composition
from tests.bench.helpers import small


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


@pytest.mark.parametrize(
    ("composition", "key"), [("summary+es", "en"), ("summary+casual+fr", "casual"), ("professional+es", "professional")]
)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_ceilings_last_pass_reads_the_reference_before_it_under_the_same_names(
    case_of: Callable[[str], Case], composition: str, key: str, split: str
) -> None:
    case = case_of(composition)
    examples = case.evaluation_examples(split)  # type: ignore[arg-type]
    plan = ceiling(case)
    assert plan.texts is not None
    assert [step.name for step in plan.parents] == [f"{case.composition.tasks[-1].name} seed 0"]
    records = {record.id: record for record in load_everyday(split)}  # type: ignore[arg-type]
    expected = [
        records[example.id.removesuffix("/summary")].summary[key].format(A=example.names[0], B=example.names[1])
        for example in examples
    ]
    assert plan.texts(examples) == expected


def test_a_single_task_has_no_ceiling(case_of: Callable[[str], Case]) -> None:
    with pytest.raises(CaloraError, match="summary has no pass before its last"):
        ceiling(case_of("summary"))


def test_the_ceiling_takes_the_references_of_the_split_though_another_has_the_same_ids(
    llama: Backbone, tmp_path: Path
) -> None:
    def written(name: str, *splits: str) -> Path:
        records = [
            TextRecord(
                id=str(n),
                split=split,  # type: ignore[arg-type]
                text=f"Ann: {split} {n}.",
                targets={"summary": {"en": f"Of {split} {n}.", "es": f"De {split} {n}."}},
            )
            for split in splits
            for n in range(2)
        ]
        (tmp_path / name).write_text("".join(f"{record.model_dump_json()}\n" for record in records))
        return tmp_path / name

    data = {"records": [written("own.jsonl", "validation")], "tested_on": [written("other.jsonl", "test")]}
    recipe = small(llama, data=data)
    case = Case(Workplace(recipe, lambda name: llama), llama.name, recipe.parse("summary+es"), 0)
    texts = ceiling(case).texts
    assert texts is not None
    assert texts(case.evaluation_examples("test")) == ["Of test 0.", "Of test 1."]
    assert texts(case.evaluation_examples("validation")) == ["Of validation 0.", "Of validation 1."]
