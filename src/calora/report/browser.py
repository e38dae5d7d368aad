"""What the page's browser of answers shows: every dialogue of every composition with all answers side by side."""

from collections.abc import Sequence
from typing import Any

from calora.corpus import Example, record_id
from calora.report.results import Entry, Measure, Results

_VERDICTS: tuple[Measure, ...] = ("retrieval", "in_language", "judge", "llm_judge")


def browser_data(results: Results) -> dict[str, Any]:
    """What the page's script reads, small enough to stand in the page: the answers of each row's first repeat.

    Returns:
        `rows` with label and title; `dialogues` with id and domain; `texts`, each different text once; `compositions`,
        each with its name, its language, `texts` (a place in `texts` a dialogue), `references` and `answers`: label to
        one list a dialogue of the answer, whether it was cut, its masked ROUGE, and yes, no or null for retrieval,
        language, judge and language model. Of a dialogue that a composition lacks it has null.
    """
    texts: dict[str, int] = {}
    compositions = []
    for name in results.compositions:
        composition = results.recipe.parse(name)
        asked = {record_id(example, composition): example for example in results.examples[name]}
        examples = [asked.get(dialogue) for dialogue in results.dialogues]
        compositions.append(
            {
                "name": name,
                "language": composition.language,
                "texts": [example and texts.setdefault(example.text, len(texts)) for example in examples],
                "references": [example and example.target for example in examples],
                "answers": {
                    label: _answers(results.entries[label, name], examples)
                    for label in results.titles
                    if (label, name) in results.entries
                },
            }
        )
    return {
        "rows": [{"label": label, "title": title} for label, title in results.titles.items()],
        "dialogues": [
            {"id": name, "domain": domain} for name, domain in zip(results.dialogues, results.domains, strict=True)
        ],
        "texts": list(texts),
        "compositions": compositions,
    }


def _answers(entry: Entry, examples: Sequence[Example | None]) -> list[list[Any] | None]:
    verdicts = [entry.scores[measure][0] > 50 if measure in entry.scores else None for measure in _VERDICTS]
    rouge = entry.scores["masked_rouge"][0] if "masked_rouge" in entry.scores else None
    rows = iter(entry.answers)
    found: list[list[Any] | None] = []
    for index, example in enumerate(examples):
        if example is None:
            found.append(None)
            continue
        row = next(rows)
        shares = None if rouge is None else round(float(rouge[index]), 1)
        said = [None if verdict is None else int(verdict[index]) for verdict in verdicts]
        found.append([row["answer"], int(bool(row.get("truncated"))), shares, *said])
    return found
