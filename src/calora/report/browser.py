"""What the page's browser of answers shows: every dialogue of every composition with all answers side by side."""

from typing import Any

from calora.report.results import Entry, Measure, Results

_VERDICTS: tuple[Measure, ...] = ("retrieval", "in_language", "judge", "llm_judge")


def browser_data(results: Results) -> dict[str, Any]:
    """What the page's script reads, small enough to stand in the page: the answers of each row's first repeat.

    Returns:
        `rows` with label and title; `dialogues` with id and domain; `texts`, each different text once; `compositions`,
        each with its name, its language, `texts` (a place in `texts` a dialogue), `references` and `answers`: label to
        one list a dialogue of the answer, whether it was cut, its masked ROUGE, and yes, no or null for retrieval,
        language, judge and language model.
    """
    texts: dict[str, int] = {}
    compositions = []
    for name in results.compositions:
        examples = results.examples[name]
        compositions.append(
            {
                "name": name,
                "language": results.recipe.parse(name).language,
                "texts": [texts.setdefault(example.text, len(texts)) for example in examples],
                "references": [example.target for example in examples],
                "answers": {
                    label: _answers(results.entries[label, name])
                    for label in results.titles
                    if (label, name) in results.entries
                },
            }
        )
    return {
        "rows": [{"label": label, "title": title} for label, title in results.titles.items()],
        "dialogues": [{"id": name, "domain": name.partition("-")[0]} for name in results.dialogues],
        "texts": list(texts),
        "compositions": compositions,
    }


def _answers(entry: Entry) -> list[list[Any]]:
    verdicts = [entry.scores[measure][0] > 50 if measure in entry.scores else None for measure in _VERDICTS]
    rouge = entry.scores["masked_rouge"][0] if "masked_rouge" in entry.scores else None
    return [
        [
            row["answer"],
            int(bool(row.get("truncated"))),
            None if rouge is None else round(float(rouge[index]), 1),
            *(None if said is None else int(said[index]) for said in verdicts),
        ]
        for index, row in enumerate(entry.answers)
    ]
