from collections.abc import Callable
from dataclasses import replace

import pytest

from calora.approaches.control import constant
from calora.approaches.in_context import fitting, in_context
from calora.approaches.wording import prompt_of
from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
from calora.corpus import Example
from calora.encoding import encode_prompt
from calora.tasks import Prompt

SHOTS = [Example(str(n), "arts", f"Ann: Is it {n}?\nBob: Yes.", f"Ann y Bob: {n}.", ("Ann", "Bob")) for n in range(12)]


def shots_in(prompt: Prompt) -> int:
    return sum(f" {shot.target}\n\n" in prompt.before for shot in SHOTS)


def test_as_many_worked_examples_as_leave_room_for_text_and_answer(
    llama: Backbone, case_of: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "context", 800)
    case, roomy = case_of("summary+es"), replace(llama)
    room = roomy.context - case.recipe.max_tokens

    def tokens(prompt: Prompt, text: str) -> int:
        return len(encode_prompt(llama.tokenizer, prompt, text, 10**9))

    counts = []
    for length in (1, 60, 400):
        text = "Ann: Hi! " * length
        prompt = fitting(roomy, case, SHOTS, "standard", text)
        counts.append(count := shots_in(prompt))
        more = prompt_of(llama, case.composition, "standard", SHOTS[: count + 1])
        assert tokens(more, text) > room
        assert tokens(prompt, text) <= room or count == 0
    assert len(SHOTS) > counts[0] > counts[1] > counts[2] == 0
    assert prompt == llama.prompt(case.composition)


def test_they_are_of_the_training_split(llama: Backbone, case_of: Callable[[str], Case]) -> None:
    plan = in_context(case_of("summary+es"), shots=1)
    assert plan.data == ("train",)
    assert plan.parents == ()
    (asked,) = plan.passes(llama, ())
    assert asked.adapter is None


def test_what_is_asked_is_read_by_no_plan(
    llama: Backbone, case_of: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, read, plain = case_of("summary+es"), list[str](), Workplace.records
    asked = case.evaluation_examples("test")
    monkeypatch.setattr(Workplace, "records", lambda self, split: (read.append(split), plain(self, split))[1])
    in_context(case, shots=2).passes(llama, ())
    constant(case).given(asked)  # type: ignore[misc]
    assert set(read) == {"train"}
