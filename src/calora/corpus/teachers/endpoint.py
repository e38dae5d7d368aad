"""A model behind an OpenAI-compatible address."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from pydantic import field_validator

from calora.corpus.teachers.base import BaseTeacher
from calora.judges import Endpoint
from calora.judges.chat import ask_all


class EndpointTeacher(BaseTeacher):
    """Asks a chat model for each text.

    Args:
        endpoint: Where, and how much may be asked.
        prompt: With `{text}` where the text goes.
    """

    teacher: Literal["endpoint"] = "endpoint"
    endpoint: Endpoint
    prompt: str

    @field_validator("prompt")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{text}") != 1:
            raise ValueError("expected {text} once")
        return value

    def answer(self, texts: Sequence[str]) -> list[str | None]:
        """Ask for each text, several at a time."""
        said = asyncio.run(ask_all([self.prompt.replace("{text}", text) for text in texts], self.endpoint))
        return [one.text.strip() or None if one.text else None for one in said]

    def about(self) -> dict[str, str]:
        """The model, its address and the prompt."""
        return {"teacher": self.endpoint.model, "version": self.endpoint.url, "prompt": self.prompt}

    @property
    def words(self) -> tuple[str, ...]:
        """The prompt's own lines."""
        return tuple(line.strip() for line in self.prompt.replace("{text}", "\n").splitlines() if line.strip())
