import pytest

from calora.errors import CaloraError
from calora.tasks import TASKS, Composition, Prompt


@pytest.mark.parametrize("text", [*TASKS, "summary+es", "reply+casual", "professional+de", "summary+professional+es"])
def test_what_is_read_is_written_the_same(text: str) -> None:
    composition = Composition.parse(text)
    assert str(composition) == text
    assert [task.name for task in composition.tasks] == text.split("+")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("es+summary", "'es\\+summary' is in the wrong order", "'summary+es'"),
        ("summary+es+casual", "wrong order", "'summary+casual+es'"),
        ("summary+summary", "'summary\\+summary' has two tasks of one kind", "at most one"),
        ("summary+reply", "two tasks of one kind", "at most one"),
        ("casual+humorous", "two tasks of one kind", "at most one"),
        ("summary+es+fr", "two tasks of one kind", "at most one"),
        ("summary+klingon", "unknown task 'klingon' in composition 'summary\\+klingon'", "summary, reply"),
        ("Summary", "unknown task 'Summary'", "summary"),
        ("", "unknown task ''", "summary"),
        ("summary+", "unknown task ''", "summary"),
    ],
)
def test_a_bad_composition_is_refused_with_what_would_mend_it(text: str, message: str, hint: str) -> None:
    with pytest.raises(CaloraError, match=message) as error:
        Composition.parse(text)
    assert hint in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "primary", "secondary", "language"),
    [
        ("summary", "summary", [], "en"),
        ("summary+es", "summary", ["es"], "es"),
        ("reply+casual", "reply", ["casual"], "en"),
        ("summary+professional+de", "summary", ["professional", "de"], "de"),
        ("casual+fr", None, ["casual", "fr"], "fr"),
    ],
)
def test_parts_of_a_composition(text: str, primary: str | None, secondary: list[str], language: str) -> None:
    composition = Composition.parse(text)
    assert (composition.primary.name if composition.primary else None) == primary
    assert [task.name for task in composition.secondary] == secondary
    assert composition.language == language


def test_every_task_is_asked_for_in_order() -> None:
    composition = Composition.parse("summary+professional+es")
    assert composition.instruction == (
        "Summarize the dialogue. Then rewrite it in a professional tone. Then translate it into Spanish."
    )
    assert composition.label == "Professional Spanish summary"
    assert Composition.parse("reply+humorous").label == "Humorous reply"


def test_a_plain_prompt_ends_in_what_the_answer_is_called() -> None:
    prompt = Prompt.for_composition(Composition.parse("summary+es"), None, "<s>")
    assert prompt.before == "<s>Summarize the dialogue. Then translate it into Spanish.\n\n"
    assert prompt.after == "\n\nSpanish summary:"
    assert prompt.lead == " "


def test_a_chat_prompt_is_what_the_template_puts_around_the_message() -> None:
    prompt = Prompt.for_composition(Composition.parse("reply"), lambda message: f"<user>{message}<end><model>")
    assert prompt == Prompt("<user>Reply to the dialogue.\n\n", "<end><model>", "")
