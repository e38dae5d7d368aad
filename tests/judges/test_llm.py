from pathlib import Path

import pytest

from calora.corpus import Example, Record, make_examples
from calora.judges.chat import Endpoint
from calora.judges.llm import judge_with_llm, parse_verdict, question
from calora.tasks import Composition
from tests.judges.conftest import Server, said

COMPOSITION = Composition.parse("summary+casual+fr")


@pytest.fixture
def examples(records: list[Record]) -> list[Example]:
    return make_examples(records, COMPOSITION, seed=0)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes", True),
        (" no.\n", False),
        ("**Yes**", True),
        ("YES, it does.", True),
        ("No\nThe tone is neutral.", False),
        ("Answer: no", False),
        ("Final answer: yes", True),
        ("<think>No, wait, yes.</think>\nYes", True),
        ("", None),
        ("I think so", None),
        ("No idea", None),
        ("Yes and no", None),
        ("Yes, but no translation.", None),
        ("yes/no", None),
        ("Yesterday", None),
        ("The output does them: yes", None),
    ],
)
def test_a_verdict_is_one_word(text: str, verdict: bool | None) -> None:
    assert parse_verdict(text) is verdict


def test_the_question_names_every_task_and_shows_no_reference(examples: list[Example]) -> None:
    asked = question("Bonjour.", examples[0], COMPOSITION)
    for part in ("Summarize the dialogue.", "casual tone", "into French", examples[0].text, "Bonjour."):
        assert part in asked
    assert examples[0].target not in asked


def test_what_cannot_be_parsed_is_no_yes(server: Server, examples: list[Example], tmp_path: Path) -> None:
    bodies = {"one": said("Yes."), "two": said("No."), "three": said("Perhaps."), "four": "junk", "five": ""}

    def respond(prompt: str, number: int) -> tuple[int, str]:
        word = next(word for word in bodies if f"<output>\n{word}\n" in prompt)
        return (500 if word == "five" else 200), bodies[word]

    server.respond = respond
    endpoint = Endpoint(url=server.url, model="tiny", concurrency=1, retries=1, backoff=0, max_requests=6)
    answers = [*bodies, "six"]
    found = judge_with_llm(answers, examples, COMPOSITION, endpoint, cache=tmp_path)
    assert found.outcomes == ["yes", "no", "unparsable", "failed", "failed", "unjudged"]
    assert found.counts == {"yes": 1, "no": 1, "unparsable": 1, "failed": 2, "unjudged": 1}
    assert found.verdicts == [True, False, None, None, None, None]
    assert found.yes_percent == pytest.approx(100 / 3)
    assert len(list(tmp_path.iterdir())) == 3
    nothing = judge_with_llm(["six"], examples[:1], COMPOSITION, endpoint.model_copy(update={"max_requests": 0}))
    assert nothing.yes_percent is None


def test_as_many_answers_as_examples(examples: list[Example]) -> None:
    with pytest.raises(ValueError, match="zip"):
        judge_with_llm(["a"], examples, COMPOSITION, Endpoint(url="http://127.0.0.1:9/v1", model="tiny"))
