"""Thresholds: from which value on an answer means its reference, or is copied; chosen on the validation split."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from calora.corpus import AnyRecord, Example, records_for
from calora.errors import CaloraError
from calora.judges.copying import copied_share
from calora.judges.meaning import similarities
from calora.judges.negatives import copied_turns
from calora.judges.references import TONES, find_references, parts_of
from calora.tasks import Composition


class Thresholds(BaseModel):
    """Where the offline judge draws its two lines for a composition.

    Args:
        composition: Which one.
        meaning: The least similarity to the reference.
        copied: The greatest share of copied words.
        meaning_accuracy: Balanced accuracy in percent of the first line on the texts it was chosen on.
        copied_accuracy: The same of the second.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    composition: str
    meaning: float
    copied: float
    meaning_accuracy: float
    copied_accuracy: float


def choose_thresholds(
    records: Sequence[AnyRecord], composition: Composition, *, seed: int = 0, threads: int = 1
) -> Thresholds:
    """Choose both lines for the best balanced accuracy on validation records.

    Meaning: a reference beside itself would say nothing (its similarity is 1), so the positives are paraphrases, the
    record's own references for the same task in the same language in every other tone; where there are none, the
    English reference of the same tone, which is the same text in translation. The negatives are the references of the
    record's neighbours: the same task, tone, language and domain about something else. Copying: references against
    turns of the dialogue.

    What the lines cannot see: names are masked, so swapped speakers pass, and to a sentence embedding a changed number
    or a negation is as near as a paraphrase; they are no negatives here, since no line would part them from
    the positives. One author wrote a record's references together, so that they are nearer to one another than a good
    answer worded by somebody else, which may be refused: for a reply above all, where another reply than the
    reference may be as good. A constant sentence is not a negative either, and is measured in the agreement.

    Args:
        records: Of the validation split, two or more of a domain.
        composition: With a primary task.
        seed: Of the names.
        threads: For the embedding.

    Raises:
        CaloraError: No primary task, no references for the composition, no paraphrases, or no neighbours.
    """
    parts = parts_of(composition)
    records = records_for(records, composition)
    examples = find_references(records, parts, seed)
    if not examples:
        raise CaloraError(f"the records have no references for {composition}", "choose a composition with references")
    others = [parts._replace(tone=tone) for tone in (None, *TONES) if tone != parts.tone]
    paraphrases = [found for other in others if (found := find_references(records, other, seed))]
    if not paraphrases and parts.language is not None:
        paraphrases = [found for found in [find_references(records, parts._replace(language=None), seed)] if found]
    positives = [pair for found in paraphrases for pair in zip(found, examples, strict=True)]
    negatives = [
        (other, example)
        for example in examples
        for other in examples
        if other.domain == example.domain and other.id != example.id
    ]
    if not positives or not negatives:
        lacking = "neighbours in a domain" if positives else "paraphrases of a reference"
        raise CaloraError(f"no {lacking} to choose thresholds for {composition} by", "use the whole validation split")
    meaning, meaning_accuracy = best_line(_similar(positives, threads), _similar(negatives, threads))
    own = [copied_share(example.target, example.text) for example in examples]
    turns = [copied_share(copied_turns(example, parts), example.text) for example in examples]
    above, copied_accuracy = best_line(turns, own)
    return Thresholds(
        composition=str(composition),
        meaning=meaning,
        copied=above,
        meaning_accuracy=meaning_accuracy,
        copied_accuracy=copied_accuracy,
    )


def best_line(high: Sequence[float], low: Sequence[float]) -> tuple[float, float]:
    """The line between two sets of values that parts them best.

    Args:
        high: Values that should lie above it.
        low: Values that should lie below it.

    Returns:
        The line, midway between two values and in the middle of the best ones, and its balanced accuracy in percent.
    """
    upper, lower = np.sort(high), np.sort(low)
    values = np.unique([*upper, *lower])
    lines = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    above = 1 - np.searchsorted(upper, lines) / len(upper)
    below = np.searchsorted(lower, lines) / len(lower)
    accuracy = (above + below) / 2
    best = np.flatnonzero(accuracy == accuracy.max())
    middle = best[len(best) // 2]
    return float(lines[middle]), 100.0 * float(accuracy[middle])


def _similar(pairs: Sequence[tuple[Example, Example]], threads: int) -> list[float]:
    answers = [answer.target for answer, _ in pairs]
    return similarities(
        answers,
        [own.target for _, own in pairs],
        [(*answer.names, *own.names) for answer, own in pairs],
        threads=threads,
    )
