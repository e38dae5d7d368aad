import re

import pytest

from calora.corpus import TextRecord, draw_names, load_everyday, make_examples
from calora.errors import CaloraError
from calora.tasks import TASKS, Composition

PRIMARY = [name for name, task in TASKS.items() if task.role == "primary"]
TONES = [name for name, task in TASKS.items() if task.role == "tone"]
LANGUAGES = [name for name, task in TASKS.items() if task.role == "language"]
OF_TWO = [f"{primary}+{other}" for primary in PRIMARY for other in (*TONES, *LANGUAGES)]
OF_THREE = ["summary+professional+es", "summary+casual+fr", "summary+humorous+de"]
OF_A_TEXT = ["professional+es", "casual+fr", "humorous+de"]
UNREFERENCED = [
    f"{primary}+{tone}+{language}"
    for primary in PRIMARY
    for tone in TONES
    for language in LANGUAGES
    if f"{primary}+{tone}+{language}" not in OF_THREE
]


def test_the_compositions_are_as_many_as_the_benchmark_has() -> None:
    assert (len(OF_TWO), len(OF_THREE), len(UNREFERENCED)) == (14, 3, 21)


@pytest.mark.parametrize("text", [*TASKS, *OF_TWO, *OF_THREE, *OF_A_TEXT])
def test_no_placeholder_is_left(text: str) -> None:
    fields = ("summary",) if text in OF_A_TEXT else None
    records = load_everyday()
    examples = make_examples(records, Composition.parse(text), seed=0, fields=fields)
    assert len(examples) == len(records) * (2 if text in (*TONES, *LANGUAGES) else 1)
    for example in examples:
        assert not re.search(r"[{}]", example.text + example.target), example.id
        assert example.text.strip() and example.target.strip(), example.id
        assert example.text != example.target, example.id


@pytest.mark.parametrize("text", [*OF_TWO, *OF_THREE])
def test_text_is_the_dialogue_and_target_the_reference(text: str) -> None:
    composition = Composition.parse(text)
    field, _, key = text.replace("+", "_").partition("_")
    for record, example in zip(
        load_everyday("test"), make_examples(load_everyday("test"), composition, seed=5, epoch=2), strict=True
    ):
        names = draw_names(record, 5, 2)
        assert (example.id, example.domain) == (record.id, record.domain)
        assert example.names == (names["A"], names["B"])
        lines = example.text.split("\n")
        assert [line.split(":")[0] for line in lines] == [names[speaker] for speaker, _ in record.dialogue]
        unfilled = [re.sub(rf"\b{names['A']}\b", "{A}", re.sub(rf"\b{names['B']}\b", "{B}", line)) for line in lines]
        assert unfilled == [f"{{{speaker}}}: {turn}" for speaker, turn in record.dialogue]
        reference = getattr(record, field)[key]
        assert example.target == reference.format(**names)


def test_every_summary_names_a_speaker_of_its_dialogue() -> None:
    for text in ("summary", *(text for text in (*OF_TWO, *OF_THREE) if text.startswith("summary"))):
        for example in make_examples(load_everyday(), Composition.parse(text), seed=1):
            found = set(re.findall(r"\w+", example.target))
            assert found & set(example.names), (text, example.id)


def test_a_secondary_task_alone_reads_the_english_summary_and_reply() -> None:
    record = load_everyday("test")[0]
    names = draw_names(record, 0)
    summary, reply = make_examples([record], Composition.parse("de"), seed=0)
    assert (summary.id, reply.id) == (f"{record.id}/summary", f"{record.id}/reply")
    assert (summary.text, summary.target) == tuple(record.summary[key].format(**names) for key in ("en", "de"))
    assert (reply.text, reply.target) == tuple(record.reply[key].format(**names) for key in ("en", "de"))


def test_a_reference_of_several_lines_becomes_one_as_an_answer_has_no_more() -> None:
    targets = {"summary": {"en": "- Ann is late.\n- Ben waits.", "es": "Ann  llega tarde."}}
    record = TextRecord(id="1", split="test", text="Ann: I am late.\nBen: I wait.", targets=targets)
    (one,) = make_examples([record], Composition.parse("summary"), seed=0)
    assert (one.text, one.target) == (record.text, "- Ann is late. - Ben waits.")
    (other,) = make_examples([record], Composition.parse("summary+es"), seed=0)
    assert other.target == "Ann  llega tarde."


@pytest.mark.parametrize("field", ["summary", "reply"])
def test_fields_choose_the_texts(field: str) -> None:
    examples = make_examples(load_everyday("test"), Composition.parse("casual"), seed=0, fields=(field,))
    assert [example.id for example in examples] == [f"{record.id}/{field}" for record in load_everyday("test")]


def test_names_change_with_the_epoch_and_nothing_else_does() -> None:
    records = load_everyday("validation")
    first, second = (make_examples(records, Composition.parse("summary+es"), seed=0, epoch=epoch) for epoch in (0, 1))
    assert [example.names for example in first] != [example.names for example in second]
    for one, other in zip(first, second, strict=True):
        pattern = "|".join((*one.names, *other.names))
        assert re.sub(pattern, "X", one.target) == re.sub(pattern, "X", other.target)
    assert first == make_examples(records, Composition.parse("summary+es"), seed=0, epoch=0)


@pytest.mark.parametrize("text", UNREFERENCED)
def test_a_composition_without_references_is_refused(text: str) -> None:
    record = load_everyday("test")[0]
    with pytest.raises(CaloraError) as caught:
        make_examples([record], Composition.parse(text), seed=0)
    field = text.partition("+")[0]
    assert str(caught.value) == f"{record.id} has no {field} reference for {text}"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"{field} references: casual, ")


@pytest.mark.parametrize("text", OF_A_TEXT)
def test_what_has_no_reference_in_a_tone_and_a_language_is_left_out(text: str) -> None:
    examples = make_examples(load_everyday("test"), Composition.parse(text), seed=0)
    assert [example.id for example in examples] == [f"{record.id}/summary" for record in load_everyday("test")]
    with pytest.raises(CaloraError, match="has no reply reference for " + re.escape(text)):
        make_examples(load_everyday("test"), Composition.parse(text), seed=0, fields=("reply",))
