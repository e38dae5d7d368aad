"""TED Talks: sentences of subtitles with their translations."""

from collections.abc import Iterable, Iterator

from calora.corpus.records import Split, TextRecord
from calora.corpus.sources.registry import FIELD, LANGUAGES, Row, source
from calora.errors import CaloraError

_ABSENT = ("__NULL__", "_ _ NULL _ _")


@source(
    name="ted-talks",
    title="TED Talks",
    gives="es, fr, de of a sentence",
    licence="CC BY-NC-ND 4.0 (the talks')",
    link="https://github.com/neulab/word-embeddings-for-nmt",
    hub="neulab/ted_multi",
    revision="refs/convert/parquet",
    files={
        "train": ("plain_text/train/*.parquet", "all_talks_train.tsv"),
        "validation": ("plain_text/validation/*.parquet", "all_talks_dev.tsv"),
        "test": ("plain_text/test/*.parquet", "all_talks_test.tsv"),
    },
)
def ted_talks(rows: Iterable[Row], split: Split) -> Iterator[TextRecord]:
    """Read the hub's `translations` (parallel lists), or the authors' table with a column a language.

    A sentence without English is left out, a translation that is missing (`__NULL__`) as well.
    """
    for number, row in enumerate(rows):
        listed = row.get("translations")
        if listed is None and "en" not in row:
            raise CaloraError(
                f"there is neither a column 'translations' nor 'en', but {', '.join(row)}",
                "is it this data set's own file?",
            )
        said = dict(row) if listed is None else dict(zip(listed["language"], listed["translation"], strict=True))
        known = {key: text for key in ("en", *LANGUAGES) if (text := _present(said.get(key)))}
        if "en" in known and len(known) > 1:
            talk = row.get("talk_name", "talk")
            yield TextRecord(
                id=f"{talk}-{number}", split=split, domain="ted", group=talk, text=known["en"], targets={FIELD: known}
            )


def _present(value: object) -> str:
    """A translation; nothing where it holds a mark of being absent."""
    text = str(value or "").strip()
    return "" if any(mark in text for mark in _ABSENT) else text
