import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from calora.adapter import Adapter
from calora.attach import attached
from calora.backbone import Backbone
from calora.encoding import encode_prompt
from calora.generation import Answer, Pass, answer_all, generate_ids, stream
from calora.tasks import Prompt
from tests.conftest import in_time, random_adapter

PROMPT = Prompt("<s>Summarize the dialogue.\n\n", "\n\nSummary:", " ")
TEXTS = [
    "Ann: Hello!",
    "Ann: Could you call me tonight?\nBob: Of course, after work I will call you.",
    "Bob: No.",
    "hm",
]


@contextmanager
def saying(backbone: Backbone, *answers: list[int]) -> Iterator[list[list[int]]]:
    """Let the model say these ids, one list a pass, whatever it reads; gives the prompts that it was given."""
    import torch

    prompts: list[list[int]] = []
    steps: list[int] = []

    def hook(module: Any, inputs: Any, keywords: dict[str, Any], out: Any) -> Any:
        ids = keywords["input_ids"]
        if ids.shape[1] > 1:
            prompts.append(ids[0].tolist())
            steps.append(0)
        said = answers[len(prompts) - 1]
        forced = torch.full_like(out.logits, -1e4)
        forced[:, :, said[min(steps[-1], len(said) - 1)]] = 0
        steps[-1] += 1
        out.logits = forced
        return out

    handle = backbone.model.register_forward_hook(hook, with_kwargs=True)
    try:
        yield prompts
    finally:
        handle.remove()


def ids_of(backbone: Backbone, text: str) -> list[int]:
    return list(backbone.tokenizer(text, add_special_tokens=False).input_ids)


def plain_greedy(backbone: Backbone, adapter: Adapter | None, text: str, max_tokens: int) -> list[int]:
    """Greedy decoding of one text, each step a whole forward pass, until the end token or a line break behind text."""
    import torch

    tokenizer: Any = backbone.tokenizer
    ids = encode_prompt(tokenizer, PROMPT, text, 200)
    new: list[int] = []
    with attached(backbone, adapter), torch.inference_mode():
        while len(new) < max_tokens and (not new or new[-1] != tokenizer.eos_token_id):
            logits = backbone.model(input_ids=torch.tensor([ids + new])).logits
            new.append(int(logits[0, -1].argmax()))
            if "\n" in tokenizer.decode(new, skip_special_tokens=True).lstrip():
                break
    return new


@pytest.mark.parametrize("adapted", [False, True])
def test_a_batch_answers_as_greedy_decoding_of_each_text_alone(backbone: Backbone, adapted: bool) -> None:
    adapter = random_adapter(backbone, 3) if adapted else None
    found = answer_all(backbone, [Pass(adapter, PROMPT)], TEXTS, max_tokens=12, batch_size=4)
    tokenizer: Any = backbone.tokenizer
    for text, answer in zip(TEXTS, found, strict=True):
        ids = plain_greedy(backbone, adapter, text, 12)
        expected = tokenizer.decode(ids, skip_special_tokens=True).strip().partition("\n")[0].strip()
        assert (answer.text, answer.tokens) == (expected, len(ids))
    assert len({answer.text for answer in found}) > 1


def test_the_size_of_a_batch_changes_no_answer(backbone: Backbone) -> None:
    whole, pairs, single = (
        answer_all(backbone, [Pass(None, PROMPT)], TEXTS, max_tokens=10, batch_size=size) for size in (4, 2, 1)
    )
    assert [answer.text for answer in whole] == [answer.text for answer in pairs] == [answer.text for answer in single]


def test_long_prompts_are_decoded_fewer_at_a_time(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answer_all(llama, [Pass(None, PROMPT)], TEXTS, max_tokens=4)
    lengths = sorted(answer.prompt_tokens for answer in whole)
    for room, expected in ((2 * lengths[-1], None), (lengths[0], [1] * len(TEXTS))):
        monkeypatch.setattr("calora.generation._BATCH_TOKENS", room)
        sizes: list[int] = []
        parted = answer_all(llama, [Pass(None, PROMPT)], TEXTS, max_tokens=4, follow=sizes.append)
        assert [answer.text for answer in parted] == [answer.text for answer in whole]
        assert sum(sizes) == len(TEXTS)
        assert len(sizes) > 1
        assert expected in (None, sizes)


@pytest.mark.parametrize(
    ("said", "text", "truncated"),
    [
        (" Ann calls.</s> more", "Ann calls.", False),
        (" Ann calls.\n more", "Ann calls.", False),
        ("\n \n Ann calls.\n more", "Ann calls.", False),
        (" Ann calls Bob and Bob calls Ann and Ann calls Bob and Bob calls Ann", None, True),
        ("</s>", "", False),
        ("\n" * 40, "", True),
    ],
)
def test_an_answer_ends_at_the_end_token_or_at_a_line_break_behind_text(
    llama: Backbone, said: str, text: str | None, truncated: bool
) -> None:
    ids = ids_of(llama, said)
    with saying(llama, ids):
        (answer,) = answer_all(llama, [Pass(None, PROMPT)], ["Ann: Hi."], max_tokens=16)
    assert answer.truncated == truncated
    if text is None:
        assert answer.tokens == 16
        assert answer.text == llama.tokenizer.decode(ids[:16]).strip()
    else:
        assert answer.text == text


def test_an_answer_that_fills_its_room_and_ends_is_not_truncated(llama: Backbone) -> None:
    ids = ids_of(llama, " Ann calls.</s>")
    with saying(llama, ids):
        (answer,) = answer_all(llama, [Pass(None, PROMPT)], ["Ann: Hi."], max_tokens=len(ids))
    assert (answer.text, answer.tokens, answer.truncated) == ("Ann calls.", len(ids), False)


def test_tokens_are_forced_past_the_end_and_over_all_passes(llama: Backbone) -> None:
    with saying(llama, ids_of(llama, " Ann.\n</s> Bob"), ids_of(llama, " Bob.</s>")):
        (answer,) = answer_all(
            llama, [Pass(None, PROMPT), Pass(None, PROMPT)], ["Ann: Hi."], max_tokens=4, force_tokens=9
        )
    assert answer.tokens == 18
    assert not answer.truncated


def test_each_pass_reads_what_the_one_before_it_wrote(llama: Backbone) -> None:
    second = Prompt("<s>Translate the text into Spanish.\n\n", "\n\nSpanish:", " ")
    with saying(llama, ids_of(llama, " Ann calls.\n"), ids_of(llama, " Ana llama.</s>")) as prompts:
        (answer,) = answer_all(llama, [Pass(None, PROMPT), Pass(None, second)], ["Ann: Hi."])
    assert [llama.tokenizer.decode(prompt) for prompt in prompts] == [
        f"{PROMPT.before}Ann: Hi.{PROMPT.after}",
        f"{second.before}Ann calls.{second.after}",
    ]
    assert answer.text == "Ana llama."
    assert answer.tokens == len(ids_of(llama, " Ann calls.\n")) + len(ids_of(llama, " Ana llama.</s>"))


def test_two_passes_are_two_answers_one_after_the_other(llama: Backbone) -> None:
    passes = [Pass(random_adapter(llama, seed), PROMPT) for seed in (1, 2)]
    once = answer_all(llama, passes, TEXTS, max_tokens=8)
    first = answer_all(llama, passes[:1], TEXTS, max_tokens=8)
    second = answer_all(llama, passes[1:], [answer.text for answer in first], max_tokens=8)
    assert [answer.text for answer in once] == [answer.text for answer in second]
    pairs = list(zip(first, second, strict=True))
    assert [a.tokens for a in once] == [a.tokens + b.tokens for a, b in pairs]
    assert [a.prompt_tokens for a in once] == [a.prompt_tokens + b.prompt_tokens for a, b in pairs]
    assert first[0].prompt_tokens == len(encode_prompt(llama.tokenizer, PROMPT, TEXTS[0], 200))


def test_a_pass_that_wrote_nothing_ends_the_answer(llama: Backbone) -> None:
    with saying(llama, ids_of(llama, "</s>")) as prompts:
        (answer,) = answer_all(llama, [Pass(None, PROMPT), Pass(None, PROMPT)], ["Ann: Hi."])
    assert (answer.text, answer.tokens, len(prompts)) == ("", 1, 1)


def test_an_empty_text_has_an_empty_answer_and_costs_nothing(llama: Backbone) -> None:
    found = answer_all(llama, [Pass(None, PROMPT)], ["", " \n", "Ann: Hi."], max_tokens=2)
    assert found[:2] == [Answer("", 0, False, 0.0)] * 2
    assert found[2].tokens > 0
    assert found[2].seconds > 0
    assert answer_all(llama, [Pass(None, PROMPT)], []) == []


def test_ids_that_the_tokenizer_does_not_have_are_passed_over(backbones: dict[str, Backbone]) -> None:
    qwen = backbones["qwen2"]  # its head has more rows than its tokenizer has tokens
    beyond = len(qwen.tokenizer) + 2
    with saying(qwen, [*ids_of(qwen, " Ann"), beyond, *ids_of(qwen, " calls.</s>")]):
        (answer,) = answer_all(qwen, [Pass(None, PROMPT)], ["Ann: Hi."])
    assert (answer.text, answer.truncated) == ("Ann calls.", False)


def test_a_text_too_long_for_the_context_is_cut_and_answered(llama: Backbone) -> None:
    with pytest.warns(UserWarning, match="its beginning is cut"):
        (answer,) = answer_all(llama, [Pass(None, PROMPT)], ["Ann: Hello! " * 200], max_tokens=4)
    assert 0 < answer.tokens <= 4


def test_a_stream_is_the_answer_in_pieces(llama: Backbone) -> None:
    for passes in ([Pass(None, PROMPT)], [Pass(random_adapter(llama, 1), PROMPT), Pass(None, PROMPT)]):
        (answer,) = answer_all(llama, passes, TEXTS[1:2], max_tokens=8)
        assert "".join(stream(llama, passes, TEXTS[1], max_tokens=8)).strip() == answer.text


def test_a_stream_that_is_given_up_decodes_no_further(llama: Backbone) -> None:
    from threading import active_count

    steps: list[int] = []
    before, threads = answer_all(llama, [Pass(None, PROMPT)], TEXTS[:1], max_tokens=6), active_count()

    def count(*given: object) -> None:
        steps.append(1)
        time.sleep(0.02)  # or a busy machine would let the thread decode all before anybody gives up

    handle = llama.model.register_forward_hook(count)
    try:
        with saying(llama, ids_of(llama, " Ann calls Bob and Bob calls Ann again and again")):
            pieces: Any = stream(llama, [Pass(random_adapter(llama, 1), PROMPT)], TEXTS[0], max_tokens=180)
            next(pieces)
            pieces.close()
            assert active_count() == threads
            assert len(steps) < 180
    finally:
        handle.remove()
    after = answer_all(llama, [Pass(None, PROMPT)], TEXTS[:1], max_tokens=6)
    assert [replace(answer, seconds=0) for answer in after] == [replace(answer, seconds=0) for answer in before]


def test_an_error_while_decoding_comes_to_who_reads(llama: Backbone) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("the machine burns")

    handle = llama.model.register_forward_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="the machine burns"):
            in_time(lambda: list(stream(llama, [Pass(None, PROMPT)], TEXTS[0], max_tokens=4)))
    finally:
        handle.remove()
    assert list(stream(llama, [Pass(None, PROMPT)], TEXTS[0], max_tokens=4))


def test_an_adapter_is_beside_the_weights_for_the_block_alone(llama: Backbone) -> None:
    before = answer_all(llama, [Pass(None, PROMPT)], TEXTS, max_tokens=6)
    answer_all(llama, [Pass(random_adapter(llama, 1), PROMPT)], TEXTS, max_tokens=6)
    after = answer_all(llama, [Pass(None, PROMPT)], TEXTS, max_tokens=6)
    assert [replace(answer, seconds=0) for answer in after] == [replace(answer, seconds=0) for answer in before]


def test_prompt_and_answer_fit_the_context_together(llama: Backbone) -> None:
    with pytest.warns(UserWarning, match="its beginning is cut"):
        (answer,) = answer_all(llama, [Pass(None, PROMPT)], ["Ann: Hello! " * 200], max_tokens=40)
    assert answer.prompt_tokens == llama.context - 40


def test_decoding_ends_where_the_last_answer_does(llama: Backbone) -> None:
    ids = ids_of(llama, " Ann calls.</s>")
    with saying(llama, ids):
        assert generate_ids(llama, [[1, 40, 41]], 40).shape[1] == len(ids)
    with saying(llama, [*ids, *ids_of(llama, " more")]):
        assert "".join(stream(llama, [Pass(None, PROMPT)], TEXTS[0], max_tokens=40)) == "Ann calls."


def test_a_batch_shares_its_seconds(llama: Backbone) -> None:
    begin = time.perf_counter()
    found = answer_all(llama, [Pass(None, PROMPT)], TEXTS, max_tokens=4)
    assert sum(answer.seconds for answer in found) <= time.perf_counter() - begin
