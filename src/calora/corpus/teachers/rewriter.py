"""A causal language model that goes on from a few examples, as in the paper."""

from collections.abc import Sequence
from functools import cache
from typing import Literal

from pydantic import Field

from calora.backbone import Backbone
from calora.corpus.teachers.base import BaseTeacher
from calora.generation import Pass, answer_all
from calora.tasks import Prompt


class RewriterTeacher(BaseTeacher):
    """Rewrites greedily, one line a text.

    Args:
        model: As for a backbone: a name, a folder, a GGUF file or a model of the hub.
        instruction: The first line of the prompt.
        examples: Pairs of a text and what should become of it.
        before: What is written before a text.
        after: What is written before its rewriting.
        max_tokens: Of an answer.
    """

    teacher: Literal["rewriter"] = "rewriter"
    model: str
    instruction: str
    examples: tuple[tuple[str, str], ...] = Field(min_length=1)
    before: str = "Text:"
    after: str = "Rewritten:"
    max_tokens: int = Field(default=96, ge=1)

    def answer(self, texts: Sequence[str]) -> list[str | None]:
        """Decode all texts in batches."""
        backbone = _loaded(self.model)
        prompt = Prompt(before=backbone.bos + self._before, after=self._after, lead="")
        lines = [" ".join(text.split()) for text in texts]
        answers = answer_all(backbone, [Pass(None, prompt)], lines, max_tokens=self.max_tokens)
        return [None if answer.truncated else answer.text or None for answer in answers]

    def about(self) -> dict[str, str]:
        """The model, its content and the prompt."""
        backbone = _loaded(self.model)
        prompt = f"{self._before}{{text}}{self._after}"
        return {"teacher": backbone.name, "version": backbone.sha256, "prompt": prompt}

    @property
    def words(self) -> tuple[str, ...]:
        """The instruction, the two marks, and the examples."""
        return (self.instruction, self.before, self.after, *(text for pair in self.examples for text in pair))

    @property
    def _before(self) -> str:
        shown = "".join(f"{self.before} {one}\n{self.after} {other}\n\n" for one, other in self.examples)
        return f"{self.instruction}\n\n{shown}{self.before} "

    @property
    def _after(self) -> str:
        return f"\n{self.after}"


@cache
def _loaded(model: str) -> Backbone:
    return Backbone.load(model)
