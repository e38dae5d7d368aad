"""The Everyday corpus, which ships with the package."""

from functools import cache
from importlib.resources import as_file, files

from calora.corpus.records import SPLITS, Record, Split, read_records
from calora.errors import CaloraError


def load_everyday(split: Split | None = None) -> list[Record]:
    """The records of a split, or all of them, domain by domain.

    Raises:
        CaloraError: There is no such split.
    """
    if split is not None and split not in SPLITS:
        raise CaloraError(f"unknown split {split!r}", f"splits: {', '.join(SPLITS)}")
    return [record for record in _all() if split in (None, record.split)]


@cache
def _all() -> tuple[Record, ...]:
    with as_file(files("calora") / "data" / "everyday") as folder:
        return tuple(record for file in sorted(folder.glob("*.jsonl")) for record in read_records(file, Record))
