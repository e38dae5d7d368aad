"""Tone: a small classifier of neutral, professional, casual, humorous and narrative, learnt from the references.

Nothing is stored: it is trained when it is needed, in a few seconds, on the training split with the names masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calora.corpus import AnyRecord, load_everyday, make_examples, records_for
from calora.errors import CaloraError
from calora.judges.references import TONES, Parts
from calora.metrics import mask_names
from calora.tasks import Task

NEUTRAL = "neutral"


@dataclass(frozen=True)
class ToneClassifier:
    """Names the tone of texts of one primary task in one language.

    Attributes:
        tones: Those it can name, `neutral` among them.
        model: A fitted scikit-learn pipeline from texts to tones.
    """

    tones: tuple[str, ...]
    model: Any

    def name(self, texts: Sequence[str], names: Sequence[tuple[str, ...]]) -> list[str]:
        """Name the likeliest tone of each text; one without words is given some tone all the same.

        Args:
            texts: Any texts.
            names: The two speakers of each dialogue, to be masked.
        """
        masked = [mask_names(text, pair) for text, pair in zip(texts, names, strict=True)]
        return [str(tone) for tone in self.model.predict(masked)] if masked else []


@dataclass(frozen=True)
class ToneAccuracy:
    """How often a classifier is right about texts of domains it has not seen.

    Attributes:
        accuracy: Percent of all texts.
        majority: Percent that guessing the commonest tone gets.
        recall: Percent of the texts of each tone.
    """

    accuracy: float
    majority: float
    recall: dict[str, float]


def train_tones(
    records: Sequence[AnyRecord], primary: Task, language: Task | None = None, tones: Sequence[Task] = TONES
) -> ToneClassifier:
    """Learn the tones of a primary task in a language.

    The features are TF-IDF of characters up to 4-grams and of words and punctuation up to 2-grams; the model is
    multinomial logistic regression.

    Args:
        records: Of the training split.
        primary: Whose references to learn from.
        language: Of the references; None is English.
        tones: Those to learn, as far as there are references.

    Raises:
        CaloraError: The records have no references in a tone for these tasks.
    """
    texts, named, _ = _labelled(records, primary, language, tones)
    return ToneClassifier(tuple(dict.fromkeys(named)), _pipeline().fit(texts, named))


@cache
def everyday_tones(primary: Task, language: Task | None = None) -> ToneClassifier:
    """`train_tones` on the training split of the Everyday corpus, once in a process."""
    return train_tones(load_everyday("train"), primary, language)


def cross_validate_tones(
    records: Sequence[AnyRecord], primary: Task, language: Task | None = None, folds: int = 4
) -> ToneAccuracy:
    """Measure the classifier on whole domains left out, since one domain has one author with habits of their own.

    Args:
        records: Of the training split, of at least `folds` domains.
        primary: As for `train_tones`.
        language: As for `train_tones`.
        folds: Parts of about equally many domains, each left out once.

    Raises:
        CaloraError: As `train_tones`.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict

    texts, tones, domains = _labelled(records, primary, language)
    named = cross_val_predict(_pipeline(), texts, tones, groups=domains, cv=GroupKFold(folds))
    right = named == tones
    kinds, counts = np.unique(tones, return_counts=True)
    return ToneAccuracy(
        accuracy=100.0 * float(right.mean()),
        majority=100.0 * float(counts.max() / len(tones)),
        recall={str(kind): 100.0 * float(right[tones == kind].mean()) for kind in kinds},
    )


def _labelled(
    records: Sequence[AnyRecord], primary: Task, language: Task | None, tones: Sequence[Task] = TONES
) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.str_]]:
    """The masked references, the tone of each and the domain of each."""
    rows = [
        (mask_names(example.target, example.names), tone.name if tone else NEUTRAL, example.domain)
        for tone in (None, *tones)
        for wanted in [Parts(primary, tone, language).composition]
        for example in make_examples(records_for(records, wanted), wanted, seed=0)
    ]
    if len({tone for _, tone, _ in rows}) < 2:
        where = f"{primary.name} in {language.label if language else 'English'}"
        raise CaloraError(
            f"no references in a tone to learn from for {where}", "judge the tone of this composition another way"
        )
    texts, named, domains = (np.array(column) for column in zip(*rows, strict=True))
    return texts, named, domains


def _pipeline() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    shared = {"sublinear_tf": True, "dtype": np.float32}
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=3, lowercase=False, **shared)
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), min_df=2, **shared)
    # A looser tolerance than the default changes no tone and halves the time.
    return make_pipeline(make_union(characters, words), LogisticRegression(C=10.0, tol=1e-3, max_iter=300))
