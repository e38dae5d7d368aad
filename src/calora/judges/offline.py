"""The offline judge: whether an answer does every task of a composition, without a language model.

It knows one reference and a few checks. `measure_agreement` says which wrong answers it lets through.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from calora.corpus import Example
from calora.errors import CaloraError
from calora.judges.copying import copied_share, words_of
from calora.judges.meaning import similarities
from calora.judges.references import Parts, parts_of
from calora.judges.thresholds import Thresholds
from calora.judges.tone import ToneClassifier, everyday_tones
from calora.metrics import detect_language
from calora.metrics.language import check_language
from calora.tasks import Composition


class Check(BaseModel):
    """One question about an answer.

    Args:
        name: `words`, `language`, `meaning`, `length`, `copied` or `tone`.
        task: Whose it is; None if every task hangs on it.
        value: What was found: a number of words, a language, a similarity, the length as a share of the dialogue's, the
            share of copied words, a tone.
        passed: Whether that will do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    task: str | None
    value: float | str | None
    passed: bool


class Verdict(BaseModel):
    """What the judge says of an answer.

    Args:
        id: Of the example.
        names: Of the composition's tasks.
        checks: Each question with its finding.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    names: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def tasks(self) -> dict[str, bool]:
        """Yes or no for each task."""
        return {name: all(check.passed for check in self.checks if check.task in (None, name)) for name in self.names}

    @property
    def passed(self) -> bool:
        """Whether all tasks are done."""
        return all(check.passed for check in self.checks)


def judge_answers(
    answers: Sequence[str],
    examples: Sequence[Example],
    composition: Composition,
    thresholds: Thresholds,
    *,
    tones: ToneClassifier | None = None,
    threads: int = 1,
) -> list[Verdict]:
    """Judge answers to a composition with a primary task.

    An answer has words; it is in the language asked for, or in English; it means about what the reference means and is
    not copied from the dialogue; a summary has fewer words than the dialogue; the tone asked for is the one that the
    classifier names. The paper (Bohdal et al. 2025, arXiv 2507.16083) asks a language model of 70 billion parameters
    instead; see `judge_with_llm`.

    Args:
        answers: One an example.
        examples: With the references.
        composition: What was asked for.
        thresholds: Chosen for this composition on the validation split.
        tones: Names tones; None trains on the Everyday corpus.
        threads: For the embedding.

    Returns:
        One verdict an answer, in their order.

    Raises:
        CaloraError: No primary task; thresholds of another composition; a language that lingua is not asked about here,
            or a tone that the classifier has not learnt.
        ValueError: Another number of answers than of examples.
    """
    parts = parts_of(composition)
    if thresholds.composition != str(composition):
        raise CaloraError(
            f"these thresholds are for {thresholds.composition}, not {composition}", "choose them for this composition"
        )
    named = _tones(answers, examples, parts, tones)
    names = [example.names for example in examples]
    near = similarities(answers, [example.target for example in examples], names, threads=threads)
    return [
        Verdict(
            id=example.id,
            names=tuple(task.name for task in composition.tasks),
            checks=(
                *_general(answer, parts, composition.language),
                *_primary(answer, example, parts, similarity, thresholds),
                *([Check(name="tone", task=tone, value=found, passed=found == tone)] if tone else []),
            ),
        )
        for answer, example, similarity, (tone, found) in zip(answers, examples, near, named, strict=True)
    ]


def _general(answer: str, parts: Parts, language: str) -> list[Check]:
    words = len(words_of(answer))
    task = parts.language.name if parts.language else None
    check_language(language)
    found = detect_language(answer, language)
    return [
        Check(name="words", task=None, value=words, passed=words > 0),
        Check(name="language", task=task, value=found, passed=found == language),
    ]


def _primary(answer: str, example: Example, parts: Parts, similarity: float, thresholds: Thresholds) -> list[Check]:
    task = parts.primary.name
    copied = copied_share(answer, example.text)
    length = len(words_of(answer)) / max(1, len(words_of(example.text)))
    return [
        Check(name="meaning", task=task, value=similarity, passed=similarity >= thresholds.meaning),
        Check(name="copied", task=task, value=copied, passed=copied <= thresholds.copied),
        *([Check(name="length", task=task, value=length, passed=length < 1)] if task == "summary" else []),
    ]


def _tones(
    answers: Sequence[str], examples: Sequence[Example], parts: Parts, tones: ToneClassifier | None
) -> list[tuple[str, str]]:
    """The tone asked for and the tone found, of each answer; empty texts where none is asked for."""
    if parts.tone is None:
        return [("", "")] * len(answers)
    classifier = tones or everyday_tones(parts.primary, parts.language)
    if parts.tone.name not in classifier.tones:
        raise CaloraError(
            f"the tone classifier has not learnt {parts.tone.name!r}", f"it knows {', '.join(classifier.tones)}"
        )
    found = classifier.name(answers, [example.names for example in examples])
    return [(parts.tone.name, tone) for tone in found]
