"""How good an answer is, and how sure one may be of it."""

from calora.metrics.chrf import chrf
from calora.metrics.language import LANGUAGES, detect_language, in_language
from calora.metrics.masking import mask_names
from calora.metrics.retrieval import retrieval_chance, retrieval_hits
from calora.metrics.rouge import RougeTokenizer, check_tokenizer, rouge
from calora.metrics.scores import AnswerScores, score_answers
from calora.metrics.statistics import (
    Difference,
    bootstrap_interval,
    holm,
    mean_score,
    paired_difference,
    share_of_gain,
    smallest_detectable,
)

__all__ = [
    "LANGUAGES",
    "AnswerScores",
    "Difference",
    "RougeTokenizer",
    "bootstrap_interval",
    "check_tokenizer",
    "chrf",
    "detect_language",
    "holm",
    "in_language",
    "mask_names",
    "mean_score",
    "paired_difference",
    "retrieval_chance",
    "retrieval_hits",
    "rouge",
    "score_answers",
    "share_of_gain",
    "smallest_detectable",
]
