"""Scores: all measures of a set of answers to one composition, dialogue by dialogue."""

from collections.abc import Sequence
from dataclasses import dataclass

from calora.metrics.chrf import chrf
from calora.metrics.language import in_language
from calora.metrics.masking import mask_names
from calora.metrics.retrieval import retrieval_chance, retrieval_hits
from calora.metrics.rouge import RougeTokenizer, rouge


@dataclass(frozen=True)
class AnswerScores:
    """What the answers are worth; everything in percent or from 0 to 100.

    Attributes:
        rows: Per dialogue: retrieval, in_language and empty (0 or 100 each); rouge1, rouge2, rouge3, rougeL, weighted
            and chrf; the same six with the prefix masked_, where the speakers' names are deleted on both sides.
        chance: What retrieval gives by guessing.
    """

    rows: list[dict[str, float]]
    chance: float

    @property
    def means(self) -> dict[str, float]:
        """The mean over dialogues of each key of the rows."""
        return {key: sum(row[key] for row in self.rows) / len(self.rows) for key in self.rows[0]}


def score_answers(
    predictions: Sequence[str],
    references: Sequence[str],
    names: Sequence[tuple[str, ...]],
    groups: Sequence[str],
    language: str,
    *,
    rouge_tokenizer: RougeTokenizer = "unicode",
) -> AnswerScores:
    """Score answers with every measure that needs no judge; retrieval is by chrF of the masked texts.

    Args:
        predictions: The answers.
        references: The texts they should have been.
        names: The two speakers of each dialogue.
        groups: The domain of each, within which answers must find their reference.
        language: Two-letter code of the language that was asked for.
        rouge_tokenizer: As for `rouge`.

    Returns:
        The rows, in the order of the answers, and the chance of retrieval.

    Raises:
        ValueError: The sequences differ in length or are empty.
        CaloraError: An unknown language or tokenizer.
    """
    sizes = [len(sequence) for sequence in (predictions, references, names, groups)]
    if len(set(sizes)) > 1 or not predictions:
        raise ValueError(
            "Expected equally many, got {} predictions, {} references, {} names, {} groups.".format(*sizes)
        )

    masked_predictions = [mask_names(text, pair) for text, pair in zip(predictions, names, strict=True)]
    masked_references = [mask_names(text, pair) for text, pair in zip(references, names, strict=True)]
    hits = retrieval_hits(masked_predictions, masked_references, groups)

    def overlap(prediction: str, reference: str) -> dict[str, float]:
        return rouge(prediction, reference, tokenizer=rouge_tokenizer) | {"chrf": chrf(prediction, reference)}

    rows = [
        {
            "retrieval": 100.0 * hits[index],
            **overlap(prediction, references[index]),
            **_masked(overlap(masked_predictions[index], masked_references[index])),
            "in_language": 100.0 * in_language(prediction, language),
            "empty": 100.0 * (not prediction.strip()),
        }
        for index, prediction in enumerate(predictions)
    ]
    return AnswerScores(rows, retrieval_chance(groups))


def _masked(scores: dict[str, float]) -> dict[str, float]:
    return {f"masked_{key}": value for key, value in scores.items()}
