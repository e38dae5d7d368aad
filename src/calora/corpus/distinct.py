"""The records of a recipe's source in order, each text once: what is tested on is never learnt from."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from calora.corpus.compose_recipe import ComposeRecipe
from calora.corpus.opening import open_plain, open_source
from calora.corpus.records import SPLITS, Split, TextRecord
from calora.corpus.sources import find_source
from calora.errors import CaloraError

# What a text was read in before is not learnt from later.
_ORDER: tuple[Split, ...] = ("test", "validation", "train")


@dataclass
class Met:
    """What was met on the way through a source, by split: records, texts that came before, empty rows; and fields."""

    read: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    fields: set[str] = field(default_factory=set)


def check(recipe: ComposeRecipe, met: Met, total: int) -> None:
    """Refuse what would end in nothing.

    Raises:
        CaloraError: There is no record, or a field is asked for that no record has.
    """
    if not total:
        found = f"; {sum(met.empty.values())} rows have no text or no reference" if met.empty else ""
        raise CaloraError(f"there are no records to compose{found}", "look at the files and at `columns`")
    unknown = sorted(set(recipe.fields or ()) - met.fields)
    if unknown:
        raise CaloraError(f"no record has a field {unknown[0]!r}", f"fields: {', '.join(sorted(met.fields))}")


def distinct(recipe: ComposeRecipe, met: Met) -> Iterator[TextRecord]:
    """The source's records in order, texts that came before left out: what is tested on is never learnt from.

    Args:
        recipe: Which source.
        met: Counts what is met, and what is left out.
    """
    seen: set[bytes] = set()
    known: set[bytes] = set()
    for split in _ORDER:
        records = _opened(recipe, split, met)
        for record in itertools.islice(records, recipe.limit):
            named = record if recipe.name is None else record.model_copy(update={"id": f"{recipe.name}-{record.id}"})
            placed = named if recipe.deal is None else _dealt(named, recipe.deal)
            if digest(placed.id) in known:
                raise CaloraError(f"two records are called {placed.id}", "give a column with an id of each row's own")
            known.add(digest(placed.id))
            met.read[placed.split] += 1
            text = digest(" ".join(placed.text.casefold().split()))
            if text in seen:
                met.again[placed.split] += 1
                continue
            seen.add(text)
            yield placed


def _opened(recipe: ComposeRecipe, split: Split, met: Met) -> Iterator[TextRecord]:
    if recipe.source is None:
        file = recipe.files.get(split)
        return iter(()) if file is None else open_plain(file, recipe.columns, split, met.empty)
    source = find_source(recipe.source)
    wanted = recipe.splits or tuple(source.files)
    return open_source(source, split, recipe.folder) if split in wanted else iter(())


def _dealt(record: TextRecord, shares: dict[Split, float]) -> TextRecord:
    """The record in the split that its group falls into."""
    place = int.from_bytes(digest(f"deal/{record.group or record.id}")) / 2**64
    for split in SPLITS:
        place -= shares.get(split, 0.0)
        if place < 0:
            return record.model_copy(update={"split": split})
    return record.model_copy(update={"split": SPLITS[0]})


def digest(text: str) -> bytes:
    """Eight bytes that stand for a text: all that is held of each record of a source."""
    return hashlib.sha256(text.encode()).digest()[:8]
