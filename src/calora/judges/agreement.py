"""Agreement: how often a judge says yes to references and no to each kind of hard negative.

This is the honest statement of what a judge cannot see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from calora.corpus import Example, Record, make_examples
from calora.judges.negatives import Answers, hard_negatives
from calora.tasks import Composition

Judge = Callable[[Sequence[str], Sequence[Example]], Sequence[bool | None]]


@dataclass(frozen=True)
class Agreement:
    """What a judge says of one kind of answer.

    Attributes:
        composition: What was asked for.
        kind: `reference`, or a kind of hard negative.
        judged: How many answers got a yes or a no.
        right: Percent of these where the judge is right: yes to a reference, no to anything else; None if there
            are none.
    """

    composition: str
    kind: str
    judged: int
    right: float | None


def measure_agreement(
    records: Sequence[Record],
    composition: Composition,
    judge: Judge,
    *,
    seed: int = 0,
    constant: Sequence[str] | None = None,
) -> list[Agreement]:
    """Put references and hard negatives before a judge.

    Args:
        records: Best of a split that neither thresholds nor a tone classifier was made from.
        composition: With a primary task.
        judge: From answers and their examples to yes, no, or None for no verdict: the offline judge's `passed`, one
            check of it, or a language model's.
        seed: Of the names.
        constant: As for `hard_negatives`.

    Raises:
        CaloraError: As `hard_negatives`.
    """
    examples = make_examples(records, composition, seed=seed)
    negatives = hard_negatives(records, composition, seed=seed, constant=constant)
    kinds: dict[str, Answers] = {"reference": [example.target for example in examples], **negatives}
    rows = []
    for kind, answers in kinds.items():
        asked = [(text, example) for text, example in zip(answers, examples, strict=True) if text is not None]
        said = judge([text for text, _ in asked], [example for _, example in asked])
        right = [verdict == (kind == "reference") for verdict in said if verdict is not None]
        rows.append(Agreement(str(composition), kind, len(right), 100.0 * sum(right) / len(right) if right else None))
    return rows


def agreement_table(rows: Sequence[Agreement]) -> str:
    """Markdown with a line a kind and a column a composition: percent right, and of how many in brackets."""
    compositions = list(dict.fromkeys(row.composition for row in rows))
    kinds = list(dict.fromkeys(row.kind for row in rows))
    cells = {(row.kind, row.composition): _cell(row) for row in rows}
    lines = [["judge is right, % (of)", *compositions], ["---", *["---:"] * len(compositions)]]
    lines += [[kind, *(cells.get((kind, name), "") for name in compositions)] for kind in kinds]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Agreement) -> str:
    return "—" if row.right is None else f"{row.right:.0f} ({row.judged})"
