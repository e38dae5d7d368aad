"""DialogSum: spoken dialogues with summaries."""

import re
from collections.abc import Iterable, Iterator

from calora.corpus.records import Split, TextRecord
from calora.corpus.sources.registry import Row, columns, source


@source(
    name="dialogsum",
    title="DialogSum",
    gives="summary (en)",
    licence="CC BY-NC-SA 4.0",
    link="https://github.com/cylnlp/dialogsum",
    hub="knkarthick/dialogsum",
    files={
        "train": ("train.csv", "dialogsum.train.jsonl"),
        "validation": ("validation.csv", "dialogsum.dev.jsonl"),
        "test": ("test.csv", "dialogsum.test.jsonl"),
    },
    seen=True,
)
def dialogsum(rows: Iterable[Row], split: Split) -> Iterator[TextRecord]:
    """Read the hub's columns (`id`) or the authors' (`fname`); of the test split's three summaries the first.

    The authors have the three beside each other, the hub in rows after each other (`test_0_1`, `test_0_2`, ...).
    Speakers stay `#Person1#` and so on, in text and summary, as the authors wrote them.
    """
    before = ""
    for row in rows:
        (name,) = columns(row, "fname" if "fname" in row else "id")
        (dialogue,) = columns(row, "dialogue")
        if split == "test" and dialogue == before:
            continue
        before, name = dialogue, re.sub(r"^(test_\d+)_\d+$", r"\1", name)
        (summary,) = columns(row, "summary" if "summary" in row else "summary1")
        text = dialogue.strip()
        if not text:
            continue
        speakers = tuple(dict.fromkeys(re.findall(r"^(#Person\d+#):", text, re.MULTILINE)))
        targets = {"summary": {"en": summary.strip()}}
        yield TextRecord(id=name, split=split, domain="dialogsum", text=text, names=speakers, targets=targets)
