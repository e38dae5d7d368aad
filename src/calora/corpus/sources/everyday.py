"""The Everyday corpus as a source: its references with names in them, to make more of them with teachers."""

from collections.abc import Iterable, Iterator

from calora.corpus.examples import filled
from calora.corpus.names import draw_names
from calora.corpus.records import SPLITS, Record, Split, TextRecord
from calora.corpus.sources.registry import Row, source


@source(
    name="everyday",
    title="Everyday corpus",
    gives="summary, reply (en, es, fr, de, four tones, three of both)",
    licence="CC BY 4.0",
    link="its data card, calora/data/everyday/README.md",
    hub="",
    files=dict.fromkeys(SPLITS, ("*.jsonl",)),
    shipped="data/everyday",
    seen=True,
)
def everyday(rows: Iterable[Row], split: Split) -> Iterator[TextRecord]:
    """Read a split's records; the names are those of seed 0."""
    for row in rows:
        if row.get("split") != split:
            continue
        record = Record(**row)
        names = draw_names(record, seed=0)
        yield TextRecord(
            id=record.id,
            split=split,
            domain=record.domain,
            text=filled(record.told(names), names),
            names=tuple(names.values()),
            targets={
                field: {key: filled(text, names) for key, text in references.items()}
                for field, references in record.by_field().items()
            },
        )
