"""Copying: how much of an answer stands word for word in the text it should have worked on."""

import re

_WORD = re.compile(r"[^\W_]+")


def copied_share(answer: str, text: str, run: int = 4) -> float:
    """Give the share of an answer's words that stand in runs which the text has too.

    Args:
        answer: The answer.
        text: What it may have been copied from.
        run: Words in a row, regardless of case and punctuation, that count as copied; an answer of fewer words counts
            as one run.

    Returns:
        From 0 (no such run, or no words) to 1 (copied throughout).
    """
    words, source = words_of(answer), words_of(text)
    run = min(run, len(words))
    if not run:
        return 0.0
    runs = {tuple(source[start : start + run]) for start in range(len(source) - run + 1)}
    starts = [start for start in range(len(words) - run + 1) if tuple(words[start : start + run]) in runs]
    return len({start + offset for start in starts for offset in range(run)}) / len(words)


def words_of(text: str) -> list[str]:
    """The words of a text, casefolded, without punctuation."""
    return _WORD.findall(text.casefold())
