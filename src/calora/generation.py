"""Batched decoding with one set of stop rules for every approach, in one pass or several."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from calora.attach import Attachable, attached
from calora.attention import grouped_queries
from calora.backbone import Backbone
from calora.encoding import encode_prompt
from calora.tasks import Prompt

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 96
_BATCH_TOKENS = (
    16_384  # with more to read at once, attention's tables outgrow every cache: 36 prompts of 1000 take 0.6 GB
)


@dataclass(frozen=True)
class Pass:
    """One run of the model over a text: which adapter, under which prompt."""

    adapter: Attachable | None
    prompt: Prompt


@dataclass(frozen=True)
class Answer:
    """What came out of one or several passes.

    Args:
        text: The answer, stripped.
        tokens: Generated tokens, over all passes.
        truncated: Whether the last pass ended for want of room rather than by itself.
        seconds: Computing time of its share of the batch, over all passes.
        prompt_tokens: Tokens that were read, over all passes.
    """

    text: str
    tokens: int
    truncated: bool
    seconds: float
    prompt_tokens: int = 0


def answer_all(
    backbone: Backbone,
    passes: Sequence[Pass],
    texts: Sequence[str],
    *,
    max_tokens: int = MAX_TOKENS,
    batch_size: int = 36,
    force_tokens: int | None = None,
    follow: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """Answer texts greedily; each pass reads what the one before it wrote.

    A pass ends at the end token, at a line break behind some text, or at `max_tokens`. A pass that is given
    an empty text (the one before it wrote nothing) gives an empty answer.

    Args:
        backbone: The model.
        passes: At least one.
        texts: What the first pass reads.
        max_tokens: The most tokens of one pass.
        batch_size: The most texts decoded together; like lengths are put together, and fewer where they are long.
        force_tokens: Let every answer of every pass have just this many tokens, to compare times.
        follow: Told of each batch how many texts it had.
    """
    answers = [Answer(text.strip(), 0, False, 0.0) for text in texts]
    for step in passes:
        waiting = [index for index, answer in enumerate(answers) if answer.text]
        limit = backbone.context - (force_tokens or max_tokens)
        prompts = {
            index: encode_prompt(backbone.tokenizer, step.prompt, answers[index].text, limit) for index in waiting
        }
        waiting.sort(key=lambda index: len(prompts[index]))
        with attached(backbone, step.adapter):
            for batch in _batches(waiting, prompts, batch_size):
                begin = time.perf_counter()
                decoded = _decode(backbone, [prompts[index] for index in batch], max_tokens, force_tokens)
                share = (time.perf_counter() - begin) / len(batch)
                for index, (text, tokens, truncated) in zip(batch, decoded, strict=True):
                    before = answers[index]
                    read = before.prompt_tokens + len(prompts[index])
                    answers[index] = Answer(text, before.tokens + tokens, truncated, before.seconds + share, read)
                follow(len(batch))
    return answers


def _batches(order: Sequence[int], prompts: Mapping[int, list[int]], size: int) -> Iterator[list[int]]:
    """Indices in their order, so many together as there may be and have no more than so many tokens to read.

    Args:
        order: Indices, the shortest prompt first.
        prompts: Index to token ids.
        size: The most of a batch.
    """
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) == size or (len(batch) + 1) * len(prompts[index]) > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class _GoneError(Exception):
    """Whoever reads does not want the answer any more."""


def stream(backbone: Backbone, passes: Sequence[Pass], text: str, *, max_tokens: int = MAX_TOKENS) -> Iterator[str]:
    """Yield the pieces of the last pass's answer as they are decoded; earlier passes are run first.

    Decoding ends with the next token where whoever reads gives up.
    """
    from transformers import TextIteratorStreamer

    if len(passes) > 1:
        text = answer_all(backbone, passes[:-1], [text], max_tokens=max_tokens)[0].text
    last = passes[-1]
    prompt = encode_prompt(backbone.tokenizer, last.prompt, text, backbone.context - max_tokens)
    tokenizer: Any = backbone.tokenizer
    pieces = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    gone = Event()
    failed: list[BaseException] = []

    class Streamer:
        """Passes each new token on while somebody reads."""

        def put(self, value: Any) -> None:
            if gone.is_set():
                raise _GoneError
            pieces.put(value)

        def end(self) -> None:
            pieces.end()

    def work() -> None:
        try:
            generate_ids(backbone, [prompt], max_tokens, None, Streamer())
        except BaseException as error:
            failed.append(error)
            pieces.end()  # or whoever reads would wait for ever

    with attached(backbone, last.adapter):
        worker = Thread(target=work)
        worker.start()
        begun = False
        try:
            for piece in pieces:
                piece = piece if begun else piece.lstrip()
                if piece:
                    begun = True
                    yield piece.replace("\n", "")
        finally:
            gone.set()  # and the adapter stays while the thread decodes
            worker.join()
        if failed:
            raise failed[0]


@lru_cache(maxsize=4)
def _line_breaks(tokenizer: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    """For each token id: whether it holds a line break, and whether it holds anything but white space.

    The last entry, of neither, is for ids that a model can give beyond its tokenizer's.
    """
    import torch

    texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
    special = set(tokenizer.all_special_ids)
    breaks = ["\n" in text for text in texts]
    words = [bool(text.strip()) and index not in special for index, text in enumerate(texts)]
    return torch.tensor([*breaks, False]), torch.tensor([*words, False])


def generate_ids(
    backbone: Backbone,
    prompts: Sequence[list[int]],
    max_tokens: int,
    force_tokens: int | None = None,
    streamer: Any = None,
) -> "torch.Tensor":
    """Decode greedily with what is attached to the backbone.

    Args:
        backbone: The model.
        prompts: Token ids.
        max_tokens: The most that are generated.
        force_tokens: Generate just so many.
        streamer: As transformers has them; told of each new token.

    Returns:
        Token ids [batch, new]: what follows each prompt, padded behind its end.
    """
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    tokenizer: Any = backbone.tokenizer
    model: Any = backbone.model
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), int(tokenizer.pad_token_id))
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    breaks, words = _line_breaks(tokenizer)

    class LineEnd(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            new = input_ids[:, longest:].cpu().clamp(max=len(words) - 1)
            begun = words[new].cumsum(1) > 0
            return (breaks[new] & begun).any(1).to(input_ids.device)

    with torch.inference_mode(), _contiguous_head(model), grouped_queries(model):
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=force_tokens or max_tokens,
            # Not forbidden where their number is forced: that would take as long as the rest of a step.
            eos_token_id=None if force_tokens else int(tokenizer.eos_token_id),
            pad_token_id=int(tokenizer.pad_token_id),
            stopping_criteria=StoppingCriteriaList([] if force_tokens else [LineEnd()]),
            streamer=streamer,
        )
    new: torch.Tensor = out[:, longest:].cpu()
    return new


@contextmanager
def _contiguous_head(model: Any) -> Iterator[None]:
    """Give the head whole rows: transformers hands it a slice, for which torch copies the weight once a text.

    With a vocabulary of 262 thousand these copies take nine tenths of reading the prompts.
    """
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: (inputs[0].contiguous(), *inputs[1:])
    )
    try:
        yield
    finally:
        handle.remove()


def _decode(
    backbone: Backbone, prompts: Sequence[list[int]], max_tokens: int, force_tokens: int | None
) -> list[tuple[str, int, bool]]:
    """(answer, generated tokens, truncated) of each prompt."""
    tokenizer: Any = backbone.tokenizer
    results = []
    for row in generate_ids(backbone, prompts, max_tokens, force_tokens).tolist():
        count, ended = answer_length(tokenizer, row) if force_tokens is None else (force_tokens, True)
        text = tokenizer.decode(row[:count], skip_special_tokens=True).strip()
        results.append((text.partition("\n")[0].strip(), count, not ended))
    return results


def answer_length(tokenizer: Any, row: Sequence[int]) -> tuple[int, bool]:
    """How many tokens of a row are its answer, its end included, and whether it has an end."""
    breaks, words = _line_breaks(tokenizer)
    begun = False
    for count, token in enumerate(row, 1):
        known = min(token, len(words) - 1)
        begun = begun or bool(words[known])
        if token == tokenizer.eos_token_id or (begun and bool(breaks[known])):
            return count, True
    return len(row), False
