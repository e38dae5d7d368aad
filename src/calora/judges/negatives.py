"""Hard negatives: answers that are wrong for a composition and yet hard to tell from right ones."""

from collections.abc import Sequence

from calora.corpus import Example, Record, neighbour_targets, rename
from calora.errors import CaloraError
from calora.judges.edits import change_detail, negate
from calora.judges.references import PRIMARIES, Parts, find_references, parts_of
from calora.tasks import Composition

Answers = list[str | None]


def hard_negatives(
    records: Sequence[Record], composition: Composition, *, seed: int = 0, constant: Sequence[str] | None = None
) -> dict[str, Answers]:
    """Make wrong answers to each record of one kind after another.

    Args:
        records: Of a split that nothing was trained on.
        composition: What was asked for.
        seed: Of the names.
        constant: One sentence for all, with each record's names put in, as `calora.approaches.constant_sentence` makes
            it.

    Returns:
        By kind, in the order of the records, None where a record has no such negative:
        `neighbour` (the reference of the next record of the domain, under this one's names), `constant`, `swapped` (the
        reference with the two names exchanged), `detail` (with one weekday or number changed), `negation` (with one
        taken out or put in), `copied` (turns of the dialogue), `other task` (the other primary task's reference),
        `neutral tone` and `untranslated` (the reference without the tone, or without the translation). Kinds that do
        not apply to the composition are left out.

    Raises:
        CaloraError: The composition has no primary task, or the records no references for it.
        ValueError: The constant's length is not that of the records.
    """
    parts = parts_of(composition)
    examples = find_references(records, parts, seed)
    if examples is None:
        raise CaloraError(f"the records have no references for {composition}", "choose a composition with references")
    language = composition.language
    kinds: dict[str, Answers] = {
        "neighbour": neighbour_targets(examples),
        "constant": [text for text, _ in zip(constant, examples, strict=True)] if constant is not None else [],
        "swapped": [_swapped(example) for example in examples],
        "detail": [change_detail(example.target, language) for example in examples],
        "negation": [negate(example.target, language) for example in examples],
        "copied": [copied_turns(example, parts) for example in examples],
        "other task": _targets(records, _other_task(parts), seed),
        "neutral tone": _targets(records, parts._replace(tone=None), seed) if parts.tone else [],
        "untranslated": _targets(records, parts._replace(language=None), seed) if parts.language else [],
    }
    return {kind: answers for kind, answers in kinds.items() if any(answers)}


def copied_turns(example: Example, parts: Parts) -> str:
    """What a model that copies would answer: the last turn as a reply, the first two as anything else.

    A line without a speaker's name counts as a turn.
    """
    turns = [line.partition(": ")[2] or line for line in example.text.splitlines()]
    return turns[-1] if parts.primary.name == "reply" else " ".join(turns[:2])


def _swapped(example: Example) -> str | None:
    text = rename(example.target, dict(zip(example.names, reversed(example.names), strict=True)))
    return text if text != example.target else None


def _other_task(parts: Parts) -> Parts:
    return parts._replace(primary=next(task for task in PRIMARIES if task.name != parts.primary.name))


def _targets(records: Sequence[Record], parts: Parts, seed: int) -> Answers:
    return [example.target for example in find_references(records, parts, seed) or ()]
