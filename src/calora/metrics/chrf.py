"""chrF: the overlap of character n-grams, kinder to inflected languages than words are."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF


def chrf(prediction: str, reference: str) -> float:
    """Score one answer with chrF (Popović 2015), sacrebleu's defaults: characters up to 6-grams, beta 2.

    Args:
        prediction: The answer; white space around it is ignored.
        reference: The text it should have been; likewise.

    Returns:
        From 0 (nothing in common, or an empty text) to 100 (the same text).
    """
    return float(_scorer().sentence_score(prediction.strip(), [reference.strip()]).score)


@cache
def _scorer() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
