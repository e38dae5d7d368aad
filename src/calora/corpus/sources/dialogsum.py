"""DialogSum: spoken dialogues with summaries; and SAMSum, messages with summaries."""

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
        speakers = tuple(dict.fromkeys(re.findall(r"^(#Person\d+#):", text, re.MULTILINE)))
        targets = {"summary": {"en": summary.strip()}}
        yield TextRecord(id=name, split=split, domain="dialogsum", text=text, names=speakers, targets=targets)


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
        dialogue, summary = columns(row, "dialogue", "summary")
        text = dialogue.replace("\r\n", "\n").strip()
        if text:  # one training dialogue is empty, as published
            speakers = tuple(dict.fromkeys(re.findall(r"^([^:\n]{1,40}):", text, re.MULTILINE)))
            targets = {"summary": {"en": summary.strip()}}
            name = str(row["id"])
            yield TextRecord(id=name, split=split, domain="samsum", text=text, names=speakers, targets=targets)
