"""ROUGE: the overlap of words between an answer and its reference, the paper's measure."""

import re
import unicodedata
from functools import cache
from typing import Any, Literal, get_args

from calora.errors import CaloraError

RougeTokenizer = Literal["unicode", "paper"]

_TYPES = ("rouge1", "rouge2", "rouge3", "rougeL")
_WORD = re.compile(r"[^\W_]+")


def rouge(prediction: str, reference: str, *, tokenizer: RougeTokenizer = "unicode") -> dict[str, float]:
    """Score one answer with ROUGE-1, 2, 3, L and the paper's weighted ROUGE, without stemming.

    The weighted one is ROUGE-1/6 + ROUGE-2/3 + ROUGE-3/2. A text of fewer than n words has ROUGE-n 0, even against
    itself.

    Args:
        prediction: The answer.
        reference: The text it should have been.
        tokenizer: `unicode` takes words of any script, casefolded; `paper` is rouge-score's default, which drops
            every letter outside a-z and so cuts "reunión" into "reuni" and "n".

    Returns:
        F-measures from 0 to 100 under the keys rouge1, rouge2, rouge3, rougeL and weighted.

    Raises:
        CaloraError: The tokenizer is not one of the two.
    """
    scored = _scorer(tokenizer).score(reference, prediction)
    scores = {name: 100.0 * float(scored[name].fmeasure) for name in _TYPES}
    return scores | {"weighted": scores["rouge1"] / 6 + scores["rouge2"] / 3 + scores["rouge3"] / 2}


class _UnicodeTokenizer:
    """Words of any script, with the one method that rouge-score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(unicodedata.normalize("NFC", text.casefold()))


def check_tokenizer(name: str) -> RougeTokenizer:
    """The tokenizer of that name.

    Raises:
        CaloraError: There is none.
    """
    for known in get_args(RougeTokenizer):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise CaloraError(f"unknown ROUGE tokenizer {name!r}", f"tokenizers: {', '.join(get_args(RougeTokenizer))}")


@cache
def _scorer(tokenizer: RougeTokenizer) -> Any:
    check_tokenizer(tokenizer)
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(_TYPES, tokenizer=_UnicodeTokenizer() if tokenizer == "unicode" else None)
