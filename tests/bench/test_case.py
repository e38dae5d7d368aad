from dataclasses import replace
from pathlib import Path

import pytest

from calora.backbone import Backbone
from calora.backbone_files import reading_sha256
from calora.bench.case import Case, Workplace
from calora.bench.making import adapter_steps
from calora.bench.recipe import Recipe
from calora.corpus import Example, TextRecord, write_pairs
from calora.errors import CaloraError
from tests.bench.helpers import small


def case_of(**changes: object) -> Case:
    recipe = Recipe.model_validate({"compositions": ["summary+es"], "approaches": ["zero-shot"]} | changes)
    return Case(Workplace(recipe), "gemma3-270m", recipe.parse("summary+es"), 0)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    write_pairs((Example(str(n), "all", f"text {n}", f"texto {n}", ()) for n in range(20)), path)
    return path


def test_an_adapter_may_learn_in_another_domain_and_only_what_hangs_on_it_changes(pairs: Path) -> None:
    plain, other = case_of(), case_of(data={"outside": {"es": pairs}})
    alone = other.of(other.composition.tasks[1])
    assert [example.id for example in alone.training_examples("validation")(0)] == ["0", "10"]
    assert [example.id for example in alone.training_examples("train")(3)] == [str(n) for n in range(20) if n % 10]
    before, after = adapter_steps(plain), adapter_steps(other)
    assert [one.key == two.key for one, two in zip(before, after, strict=True)] == [True, False]
    assert len(other.training_examples("train")(0)) == 504, "composed examples come from the corpus"
    asked = plain.of(plain.composition.tasks[1]).settings("test")
    assert alone.settings("test") == asked, "what only answers hangs on no file that is learnt from"
    fewer = case_of(data={"outside": {"es": pairs}, "train": 24, "validation": 24})
    few = fewer.of(fewer.composition.tasks[1])
    assert few.training_settings() == alone.training_settings()
    for split in ("train", "validation"):
        assert few.settings(split) != alone.settings(split), "a control and a search see the records"


def test_few_dialogues_are_of_all_domains() -> None:
    few = replace(case_of(), examples=30)
    assert len({example.domain for example in few.training_examples("train")(0)}) == 12


def test_the_language_of_a_task_of_ones_own_words_is_part_of_the_case() -> None:
    task = {"instruction": "Translate", "then": "translate", "label": "Translation", "role": "language"}
    plain, spanish, other = (
        case_of(tasks=tasks) for tasks in ({}, {"es": task | {"language": "es"}}, {"es": task | {"language": "pt"}})
    )
    assert "languages" not in plain.settings("test") and "languages" not in spanish.settings("test")
    assert other.settings("test")["languages"] == ["pt"]


def test_a_part_of_the_dialogues_and_a_domain_left_out_are_other_cases() -> None:
    case = case_of()
    few, left = replace(case, examples=48), replace(case, without="arts")
    assert len(few.training_examples("train")(0)) == 48
    assert len(few.training_examples("validation")(0)) == 60
    assert {example.domain for example in left.training_examples("train")(0)}.isdisjoint({"arts"})
    keys = [str(one.settings("train")) for one in (case, few, left)]
    assert len(set(keys)) == 3
    assert "examples" not in case.settings("train")


def test_a_secondary_task_alone_is_asked_of_one_text_a_dialogue() -> None:
    case = case_of()
    alone = case.of(case.composition.tasks[1])
    assert len(alone.evaluation_examples("test")) == 108
    assert len(alone.training_examples("train")(0)) == 1008


def test_names_are_new_in_each_epoch_and_fixed_in_evaluation() -> None:
    case = case_of()
    examples = case.training_examples("train")
    assert examples(0)[0].names != examples(1)[0].names
    assert case.evaluation_examples("test") == replace(case, seed=7).evaluation_examples("test")


def test_leaving_out_the_only_domain_is_told(llama: Backbone) -> None:
    recipe = small(llama)
    place = Workplace(recipe)
    (domain,) = {record.domain for record in place.records("validation")}
    case = Case(place, llama.name, recipe.parse("summary+es"), 0, without=domain)
    with pytest.raises(CaloraError, match=f"without {domain} no validation dialogue is left"):
        case.training_examples("validation")


def test_a_text_that_is_learnt_from_is_not_tested_on_whatever_its_id(tmp_path: Path) -> None:
    def written(name: str, *rows: tuple[str, str, str]) -> Path:
        path = tmp_path / name
        records = [
            TextRecord(id=identity, split=split, text=text, targets={"summary": {"en": "x", "es": "y"}})  # type: ignore[arg-type]
            for identity, split, text in rows
        ]
        path.write_text("".join(f"{record.model_dump_json()}\n" for record in records), encoding="utf-8")
        return path

    own = written("own.jsonl", ("a", "train", "Ann: Hi."), ("b", "validation", "Ann: Ho."), ("c", "test", "ann:  hi."))
    other = written("other.jsonl", ("z", "test", "Ann: Ho."))
    for data in ({"records": own}, {"records": own, "tested_on": other}):
        place = case_of(data=data).place
        place.records("train")
        place.records("validation")
        with pytest.raises(CaloraError, match=r"test record . has the text of (train|validation) record"):
            place.records("test")


def test_a_file_of_ones_own_that_holds_what_is_tested_on_is_refused(tmp_path: Path) -> None:
    case = case_of()
    reference = case.evaluation_examples("test")[3]
    pairs = [Example(str(n), "all", f"text {n}", f"texto {n}", ()) for n in range(20)]
    path = tmp_path / "pairs.jsonl"
    for held in (10, 11):  # one that it is validated on, one that it learns from
        leak = replace(pairs[held], target=f" {reference.target.upper()}")
        write_pairs([*pairs[:held], leak, *pairs[held + 1 :]], path)
        place = case_of(data={"outside": {"es": path}}).place
        place.check_outside("es", [case.of(case.composition.tasks[0]).composition])
        with pytest.raises(CaloraError, match=f"pair {held} has the reference of test record {reference.id}"):
            place.check_outside("es", [case.composition])


def test_another_chat_template_is_another_backbone(llama: Backbone, tmp_path: Path) -> None:
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    name = str(tmp_path / "model")

    def key() -> str:
        recipe = small(llama, backbones=[name])
        return str(Case(Workplace(recipe), name, recipe.parse("summary+es"), 0).settings("test"))

    before = key()
    assert key() == before
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0].content }} now", encoding="utf-8")
    assert key() != before
    assert reading_sha256("gemma3-270m") is None, "its SHA-256 covers all"


def test_other_words_or_another_field_are_another_case(llama: Backbone) -> None:
    task = {"role": "tone", "instruction": "Shout.", "then": "shout.", "label": "loud", "field": "casual"}
    keys = []
    for changes in ({}, {"then": "yell."}, {"label": "noisy"}, {"field": "humorous"}):
        recipe = small(llama, tasks={"casual": task | changes}, compositions=["summary+casual"])
        settings = Case(Workplace(recipe), llama.name, recipe.parse("summary+casual"), 0).settings()
        keys.append(str(settings))
    assert len(set(keys)) == 4


def test_what_an_epoch_is_chosen_by_is_not_learnt_from_either(tmp_path: Path) -> None:
    case = case_of()
    reference = case.evaluation_examples("validation")[3]
    pairs = [Example(str(n), "all", f"text {n}", f"texto {n}", ()) for n in range(20)]
    pairs[11] = replace(pairs[11], target=reference.target)
    write_pairs(pairs, tmp_path / "pairs.jsonl")
    place = case_of(data={"outside": {"es": tmp_path / "pairs.jsonl"}}).place
    with pytest.raises(CaloraError, match=f"pair 11 has the reference of validation record {reference.id}"):
        place.check_outside("es", [case.composition])
