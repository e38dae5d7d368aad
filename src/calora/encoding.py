"""Prompts and answers as token ids: the user's text never becomes a special token, and only it is cut."""

import warnings
from typing import TYPE_CHECKING, Any

from calora.errors import CaloraError
from calora.tasks import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, text: str, limit: int) -> list[int]:
    """Token ids of the prompt around a text.

    Args:
        tokenizer: The backbone's.
        prompt: What stands around the text; its special tokens are read as such.
        text: The user's text; what looks like a special token in it stays text.
        limit: The most tokens; a longer text loses its oldest part, the instruction never does.

    Raises:
        CaloraError: The text is empty, or the prompt alone is over the limit.
    """
    if not text.strip():
        raise CaloraError("the text is empty", "give a dialogue or a sentence")
    before = _ids(tokenizer, prompt.before)
    after = _ids(tokenizer, prompt.after)
    middle = _ids(tokenizer, text.strip(), split_special_tokens=True)
    room = limit - len(before) - len(after)
    if room < 1:
        raise CaloraError(
            f"the prompt alone takes {len(before) + len(after)} tokens, and {max(0, limit)} are left for it",
            "ask for a shorter answer, or take a backbone with a longer context",
        )
    if len(middle) > room:
        warnings.warn(f"the text has {len(middle)} tokens, {room} fit: its beginning is cut", stacklevel=2)
        middle = middle[-room:]
    return [*before, *middle, *after]


def encode_answer(tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, answer: str) -> list[int]:
    """Token ids of an answer as it follows the prompt, ended by the end token."""
    return [*_ids(tokenizer, prompt.lead + answer), int(tokenizer.eos_token_id)]


def _ids(tokenizer: Any, text: str, **extra: Any) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, **extra).input_ids) if text else []
