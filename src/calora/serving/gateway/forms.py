"""The two forms in which an answer is written: as a chat, and as a completion."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

from calora.serving.engine import End, Piece


class Form(Protocol):
    """How an endpoint writes an answer."""

    name: str
    part: str
    prefix: str

    def choice(self, text: str) -> dict[str, Any]:
        """The whole answer."""
        ...

    def delta(self, text: str, first: bool, last: bool) -> dict[str, Any]:
        """A part of it."""
        ...


class ChatForm:
    """Of `/v1/chat/completions`."""

    name, part, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl-"

    def choice(self, text: str) -> dict[str, Any]:
        """See `Form`."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def delta(self, text: str, first: bool, last: bool) -> dict[str, Any]:
        """See `Form`."""
        role = {"role": "assistant"} if first else {}
        return {"delta": role if last else {**role, "content": text}}


class CompletionForm:
    """Of `/v1/completions`."""

    name, part, prefix = "text_completion", "text_completion", "cmpl-"

    def choice(self, text: str) -> dict[str, Any]:
        """See `Form`."""
        return {"text": text}

    def delta(self, text: str, first: bool, last: bool) -> dict[str, Any]:
        """See `Form`."""
        return {"text": text}


@dataclass(frozen=True)
class Letter:
    """An answer on its way.

    Args:
        form: Of the endpoint.
        model: That was asked for.
        with_usage: Whether a stream tells the tokens.
    """

    form: Form
    model: str
    with_usage: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, last: Piece) -> dict[str, Any]:
        """The answer as one object."""
        choice = self._choice(self.form.choice(text), last.end)
        return {**self._head(self.form.name), "choices": [choice], "usage": usage(last)}

    def event(self, text: str, *, first: bool = False, end: End | None = None) -> str:
        """A part of the answer, or its end."""
        choice = self._choice(self.form.delta(text, first, end is not None), end)
        return event(
            {**self._head(self.form.part), "choices": [choice], **({"usage": None} if self.with_usage else {})}
        )

    def usage_event(self, last: Piece) -> str:
        """The tokens of the answer."""
        return event({**self._head(self.form.part), "choices": [], "usage": usage(last)})

    def _head(self, name: str) -> dict[str, Any]:
        return {"id": self.form.prefix + self.id, "object": name, "created": self.created, "model": self.model}

    @staticmethod
    def _choice(inner: dict[str, Any], end: End | None) -> dict[str, Any]:
        return {"index": 0, **inner, "logprobs": None, "finish_reason": end}


def usage(last: Piece) -> dict[str, int]:
    """The tokens of an answer, over all its passes."""
    return {
        "prompt_tokens": last.prompt_tokens,
        "completion_tokens": last.tokens,
        "total_tokens": last.prompt_tokens + last.tokens,
    }


def event(value: dict[str, Any]) -> str:
    """A server-sent event, in ASCII: some clients take U+2028 and its like for the end of a line."""
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
