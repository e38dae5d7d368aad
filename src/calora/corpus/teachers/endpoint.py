"""A model behind an OpenAI-compatible address."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import PrivateAttr, field_validator

from calora.corpus.teachers.base import BaseTeacher
from calora.errors import CaloraError
from calora.judges import Endpoint
from calora.judges.chat import ask_all

_MAX_TOKENS = 256  # a judge's answer is a word, a teacher's a text


class EndpointTeacher(BaseTeacher):
    """Asks a chat model for each text.

    Args:
        endpoint: Where, and how much may be asked; `max_tokens` is 256 if left out, `max_requests` is of one start of a
            run, whose next may ask as many again.
        prompt: With `{text}` where the text goes.
    """

    teacher: Literal["endpoint"] = "endpoint"
    endpoint: Endpoint
    prompt: str
    _asked: int = PrivateAttr(default=0)

    @field_validator("endpoint", mode="before")
    @classmethod
    def _has_room(cls, value: Any) -> Any:
        return {"max_tokens": _MAX_TOKENS} | value if isinstance(value, dict) else value

    @field_validator("prompt")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{text}") != 1:
            raise ValueError("expected {text} once")
        return value

    def answer(self, texts: Sequence[str]) -> list[str | None]:
        """Ask for each text, several at a time; an answer that ends for want of tokens is none.

        Raises:
            CaloraError: The server does not answer, refuses, or the budget is used up: what was not asked is not done.
        """
        limit = self.endpoint.max_requests
        if limit is not None and self._asked + len(texts) > limit:
            raise CaloraError(
                f"the budget of {limit} requests does not suffice for the next {len(texts)} texts",
                "raise max_requests, or lower the recipe's batch, and go on: what is done is kept",
            )
        self._asked += len(texts)
        said = asyncio.run(ask_all([self.prompt.replace("{text}", text) for text in texts], self.endpoint))
        lost = [one.outcome for one in said if one.outcome in ("failed", "over budget")]
        if lost:
            raise CaloraError(
                f"{self.endpoint.url} gave no answer to {len(lost)} of {len(texts)} requests ({lost[0]})",
                "go on when it does; what is done is kept",
            )
        return [None if one.cut or one.text is None else one.text.strip() or None for one in said]

    def about(self) -> dict[str, str]:
        """The model, its address and the prompt."""
        return {"teacher": self.endpoint.model, "version": self.endpoint.url, "prompt": self.prompt}

    @property
    def words(self) -> tuple[str, ...]:
        """The prompt's own lines."""
        return tuple(line.strip() for line in self.prompt.replace("{text}", "\n").splitlines() if line.strip())
