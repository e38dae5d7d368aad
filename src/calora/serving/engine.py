"""What an engine gives, whichever computes."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from calora.errors import CaloraError
from calora.tasks import Prompt

End = Literal["stop", "length"]


class EngineError(CaloraError):
    """What computes failed, for no fault of the request."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Args:
        temperature: 0 takes the likeliest.
        top_p: The likeliest tokens of so much probability are drawn from.
        seed: Of drawing; None for another answer each time.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


GREEDY = Sampling()


@dataclass(frozen=True)
class Piece:
    """A part of a pass's answer.

    Args:
        text: To be put behind what came before.
        tokens: Generated so far.
        prompt_tokens: Of the prompt.
        end: None until the last piece; then `stop` (the answer ended by itself) or `length`.
    """

    text: str
    tokens: int
    prompt_tokens: int
    end: End | None = None


class Engine(Protocol):
    """What computes: llama.cpp, or torch for a backbone that llama.cpp cannot load."""

    def generate(
        self, prompt: Prompt, text: str, scales: Mapping[str, float], max_tokens: int, sampling: Sampling
    ) -> Generator[Piece]:
        """Answer one pass, piece by piece; closing the iterator stops the computing.

        Args:
            prompt: Around the text.
            text: The user's; it never becomes a special token, and only it is cut where it is too long.
            scales: Adapters that are on; all others are off.
            max_tokens: The most to generate.
            sampling: How tokens are chosen.

        Raises:
            CaloraError: The text is empty, or the prompt alone is longer than the context.
        """
        ...

    def close(self) -> None:
        """Give the memory back; passes that are under way are broken off."""
        ...


class Line:
    """The stop rule of calora: an answer ends at a line break behind some text; space in front of it is dropped."""

    def __init__(self) -> None:
        self.begun = False
        self.ended = False

    def take(self, text: str) -> str:
        """What of a piece belongs to the answer; sets `ended` at the line break."""
        if not self.begun:
            text = text.lstrip()
            self.begun = bool(text)
        before, found, _ = text.partition("\n")
        self.ended = bool(found)
        return before.rstrip() if found else before
