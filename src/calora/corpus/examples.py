"""Examples: a text and what should come of it, made from records for any task or composition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from calora.corpus.names import draw_names, rename
from calora.corpus.records import AnyRecord, Record, Speaker
from calora.errors import CaloraError
from calora.tasks import Composition

AnyKind = TypeVar("AnyKind", bound=AnyRecord)


@dataclass(frozen=True)
class Example:
    """What the model reads and what it should write.

    Args:
        id: Of the record; `ID/summary` or `ID/reply` where the text is one of its references.
        domain: Of the record.
        text: A dialogue, one line a turn, or a sentence.
        target: The reference, on one line.
        names: Of the two speakers.
    """

    id: str
    domain: str
    text: str
    target: str
    names: tuple[str, ...]


def make_examples(
    records: Sequence[AnyRecord],
    composition: Composition,
    *,
    seed: int,
    epoch: int = 0,
    fields: tuple[str, ...] | None = None,
) -> list[Example]:
    """Examples of a composition.

    With a primary task the text is the dialogue, one example a record. Without one the texts are the record's English
    references (the summary and the reply, two examples a record), as far as they have what the tasks make of them, or
    those of `fields`.

    Args:
        records: In the order wanted.
        composition: Tasks; their references must be in the records.
        seed: Of the names.
        epoch: Other names in each.
        fields: `("summary",)` or `("reply",)` to take only these texts, for secondary tasks alone.

    Raises:
        CaloraError: The records have no references for the composition.
    """
    key = _key(composition)
    examples = []
    for record in records:
        names = draw_names(record, seed, epoch) if isinstance(record, Record) else {}
        own = tuple(names.values()) if isinstance(record, Record) else record.names
        if composition.primary is not None:
            text = record.told(names) if isinstance(record, Record) else record.text
            sources = [(record.id, text, composition.primary.key)]
        else:
            chosen = fields or fields_for(record, composition) or record.fields
            sources = [(f"{record.id}/{field}", record.references(field)["en"], field) for field in chosen]
        for name, text, field in sources:
            references = record.references(field)
            if key not in references:
                raise CaloraError(
                    f"{record.id} has no {field} reference for {composition}",
                    f"{field} references: {', '.join(sorted(references))}",
                )
            target = _on_one_line(filled(references[key], names))
            examples.append(Example(name, record.domain, filled(text, names), target, own))
    return examples


def one_each(records: Sequence[AnyRecord], composition: Composition, *, seed: int) -> list[Example]:
    """One example a record, as answers are scored: secondary tasks alone are asked for its first reference.

    Arguments and errors as for `make_examples`.
    """
    if composition.primary is not None:
        return make_examples(records, composition, seed=seed)
    return [
        example
        for record in records
        for example in make_examples([record], composition, seed=seed, fields=fields_for(record, composition)[:1])
    ]


def record_id(example: Example, composition: Composition) -> str:
    """The id of the record that an example of a composition was made from."""
    return example.id if composition.primary is not None else example.id.rpartition("/")[0]


def fields_for(record: AnyRecord, composition: Composition) -> tuple[str, ...]:
    """The fields of a record that have references for a composition; with a primary task it is that task's or none."""
    primary = composition.primary
    fields = [field for field in record.fields if primary is None or field == primary.key]
    return tuple(field for field in fields if _key(composition) in record.references(field))


def records_for(records: Sequence[AnyKind], composition: Composition) -> list[AnyKind]:
    """Those of the records that have references for a composition."""
    return [record for record in records if fields_for(record, composition)]


def neighbour_targets(examples: Sequence[Example]) -> list[str | None]:
    """For each example the target of the next one of its domain, under its own names; None where it is alone there."""
    answers: list[str | None] = []
    for index, example in enumerate(examples):
        turned = [*examples[index + 1 :], *examples[:index]]
        other = next((other for other in turned if other.domain == example.domain), None)
        answers.append(renamed_target(other, example.names) if other else None)
    return answers


def renamed_target(example: Example, names: Sequence[str]) -> str:
    """The target of an example under other names, first for first, as far as both have them."""
    return rename(example.target, dict(zip(example.names, names, strict=False)))


def _on_one_line(text: str) -> str:
    """A reference as an answer may be: it ends at its first line break."""
    return " ".join(text.split()) if "\n" in text else text


def _key(composition: Composition) -> str:
    return "_".join(task.key for task in composition.secondary) or "en"


def filled(text: str, names: Mapping[Speaker, str]) -> str:
    """The text with names for its placeholders, if it has any."""
    for speaker, name in names.items():
        text = text.replace(f"{{{speaker}}}", name)
    return text
