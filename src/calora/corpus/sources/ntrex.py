"""NTREX-128: sentences of news with their translations, in parallel files."""

from collections.abc import Iterable, Iterator

from calora.corpus.records import Split, TextRecord
from calora.corpus.sources.registry import FIELD, LANGUAGES, Row, source


@source(
    name="ntrex",
    title="NTREX-128",
    gives="es, fr, de of a sentence",
    licence="CC BY-SA 4.0",
    link="https://github.com/MicrosoftTranslator/NTREX",
    hub="",
    files={"test": ()},
    parallel={
        "en": "newstest2019-src.eng.txt",
        "es": "newstest2019-ref.spa.txt",
        "fr": "newstest2019-ref.fra.txt",
        "de": "newstest2019-ref.deu.txt",
    },
    seen=True,
)
def ntrex(rows: Iterable[Row], split: Split) -> Iterator[TextRecord]:
    """Read its parallel files, a sentence a line, of which `rows` has `en` and the languages beside it."""
    for number, row in enumerate(rows):
        known = {key: str(row[key]).strip() for key in ("en", *LANGUAGES) if row.get(key)}
        yield TextRecord(id=f"ntrex-{number}", split=split, domain="ntrex", text=known["en"], targets={FIELD: known})
