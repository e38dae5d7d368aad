"""SAMSum: messages with summaries."""

import re
from collections.abc import Iterable, Iterator

from calora.corpus.records import Split, TextRecord
from calora.corpus.sources.registry import Row, columns, source


@source(
    name="samsum",
    title="SAMSum",
    gives="summary (en)",
    licence="CC BY-NC-ND 4.0",
    link="https://arxiv.org/abs/1911.12237",
    hub="knkarthick/samsum",
    files={
        "train": ("train.csv", "train.json"),
        "validation": ("validation.csv", "val.json"),
        "test": ("test.csv", "test.json"),
    },
)
def samsum(rows: Iterable[Row], split: Split) -> Iterator[TextRecord]:
    """Read `id`, `dialogue` and `summary`, the hub's and the authors' columns alike; another domain to test on."""
    for row in rows:
        name, dialogue, summary = columns(row, "id", "dialogue", "summary")
        text = dialogue.replace("\r\n", "\n").strip()
        if text:  # one training dialogue is empty, as published
            speakers = tuple(dict.fromkeys(re.findall(r"^([^:\n]{1,40}):", text, re.MULTILINE)))
            targets = {"summary": {"en": summary.strip()}}
            yield TextRecord(id=name, split=split, domain="samsum", text=text, names=speakers, targets=targets)
