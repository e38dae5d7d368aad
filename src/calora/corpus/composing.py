"""Make composed data: a source's single-task references, and what teachers make of them, as one file of records.

Whatever is done is a line of the journal, so that a run that was killed goes on behind its last whole line.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from calora.console import counting
from calora.corpus.compose_recipe import ComposeRecipe
from calora.corpus.distinct import Met, check, digest, distinct
from calora.corpus.filters import unfit
from calora.corpus.names import rename, stand_ins
from calora.corpus.opening import files_of
from calora.corpus.records import Split, TextRecord
from calora.corpus.sources import find_source
from calora.corpus.teachers import Teacher
from calora.errors import CaloraError
from calora.storage import alone_in, fingerprint, read_card, sha256_of, write_text, writing_file

# What may change while a run goes on: how fast and how much is asked, not what.
_PACE = {"batch", "batch_size", "max_requests", "concurrency", "retries", "backoff", "timeout"}
JOURNAL, RECORDS, RECIPE, COUNTS, SHEET = "journal.jsonl", "records.jsonl", "recipe.json", "counts.json", "sample.md"


class Entry(BaseModel, extra="forbid", frozen=True):
    """A line of the journal.

    Args:
        id: Of the record.
        split: Of the record.
        record: With what was made of it; None if nothing was fit.
        dropped: `FIELD.KEY` to why an answer was left out, and the answer.
    """

    id: str
    split: Split
    record: TextRecord | None
    dropped: dict[str, tuple[str, str | None]] = {}


class Counts(BaseModel, extra="forbid", frozen=True):
    """What became of a run's records.

    Args:
        read: Records of each split as they were met.
        again: Of these, those whose text was met before, in the same split or in one that is not for training.
        empty: Rows of one's own files that had no text or no reference; not among those read.
        kept: Records that were written.
        dropped: `FIELD.KEY` to reason to how many answers.
    """

    read: dict[str, int]
    again: dict[str, int]
    empty: dict[str, int] = {}
    kept: dict[str, int]
    dropped: dict[str, dict[str, int]]


class _Claim(BaseModel, extra="forbid", frozen=True):
    """What a folder is being filled with: the recipe, and file to SHA-256 of what is read."""

    recipe: dict[str, Any]
    inputs: dict[str, str]


def compose(recipe: ComposeRecipe, out: Path) -> Counts:
    """Make composed data, or go on where a run of the same recipe was stopped.

    Args:
        recipe: What to make.
        out: A folder: `journal.jsonl` while it goes on, `records.jsonl` at the end.

    Raises:
        CaloraError: The folder is another recipe's, or another process works in it; the source cannot be read, or a
            teacher cannot work.
    """
    with alone_in(out):
        return _composed(recipe, out)


def _composed(recipe: ComposeRecipe, out: Path) -> Counts:
    _claim(out, recipe)
    met = Met()
    total = 0
    for record in distinct(recipe, met):
        total += 1
        met.fields.update(record.fields)
    check(recipe, met, total)
    done = {digest(entry.id) for entry in _mended(out / JOURNAL)}
    waiting = (record for record in distinct(recipe, Met()) if digest(record.id) not in done)
    with (out / JOURNAL).open("a", encoding="utf-8") as journal, counting("composed records", total) as advance:
        advance(len(done))
        for chunk in _chunks(waiting, recipe.batch):
            for entry in _taught(recipe, chunk):
                journal.write(entry.model_dump_json() + "\n")
            journal.flush()
            advance(len(chunk))
    return _written(out, met)


def entries(out: Path) -> Iterator[Entry]:
    """What a run did, a record at a time."""
    with (out / JOURNAL).open(encoding="utf-8") as lines:
        for line in lines:
            yield Entry.model_validate_json(line)


def _claim(out: Path, recipe: ComposeRecipe) -> None:
    """Refuse to go on in a folder of another recipe, or of files that have changed since."""
    path = out / RECIPE
    claim = _Claim(recipe=recipe.model_dump(mode="json"), inputs=_inputs(recipe))
    foreign = next((name for name in (JOURNAL, RECORDS, COUNTS, SHEET) if (out / name).exists()), None)
    if foreign and not path.exists():
        raise CaloraError(f"{out} holds a {foreign} that is not of this command", "give a folder of its own")
    before = read_card(path, _Claim) if path.exists() else claim
    if _without_pace(before.model_dump()) != _without_pace(claim.model_dump()):
        what = "other files" if before.inputs != claim.inputs else "another recipe"
        raise CaloraError(f"{out} was begun with {what}", "give another folder, or remove this one")
    write_text(path, claim.model_dump_json(indent=2) + "\n")


def _without_pace(value: Any) -> Any:
    """A recipe without what says how fast and how much is asked, which may change while a run goes on."""
    if isinstance(value, dict):
        return {key: _without_pace(one) for key, one in value.items() if key not in _PACE}
    return [_without_pace(one) for one in value] if isinstance(value, list) else value


def _inputs(recipe: ComposeRecipe) -> dict[str, str]:
    """File to SHA-256 of what is read; a folder of `datasets` is all its files."""
    paths = {str(path): path for path in recipe.files.values()}
    if recipe.source is not None:
        source = find_source(recipe.source)
        wanted: tuple[Split, ...] = recipe.splits or tuple(source.files)
        paths = {name: path for split in wanted for name, path in files_of(source, split, recipe.folder).items()}
    for name, path in list(paths.items()):
        if path.is_dir():
            del paths[name]
            paths |= {str(file): file for file in sorted(path.rglob("*")) if file.is_file()}
    return {name: sha256_of(path) for name, path in paths.items() if path.exists()}


def _mended(path: Path) -> Iterator[Entry]:
    """The journal's entries; a last line that was being written when the run was killed is cut off."""
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            yield Entry.model_validate_json(line)
            whole += len(line)
    with path.open("r+b") as file:
        file.truncate(whole)


def _chunks(records: Iterator[TextRecord], size: int) -> Iterator[list[TextRecord]]:
    while chunk := list(itertools.islice(records, size)):
        yield chunk


def _taught(recipe: ComposeRecipe, records: Sequence[TextRecord]) -> list[Entry]:
    """What the teachers make of the references of some records."""
    made: list[dict[str, dict[str, str | float]]] = [{} for _ in records]
    targets: list[dict[str, dict[str, str]]] = [
        {field: dict(keys) for field, keys in record.targets.items()} for record in records
    ]
    dropped: list[dict[str, tuple[str, str | None]]] = [{} for _ in records]
    for key, target in recipe.targets.items():
        wanted = [
            (number, field)
            for number, record in enumerate(records)
            for field in record.fields
            if (recipe.fields is None or field in recipe.fields)
            and key not in record.targets[field]  # what a person wrote stays
        ]
        places = [(number, field) for number, field in wanted if records[number].targets[field].get("en", "").strip()]
        for number, field in set(wanted) - set(places):
            dropped[number][f"{field}.{key}"] = ("no English reference", None)
        if not places:
            continue
        sources = [records[number].targets[field]["en"] for number, field in places]
        names = [records[number].names for number, _ in places]
        answers = _answers(target.by, sources, names)
        about = target.by.about()
        if "prompt" in about:
            about |= {"prompt": fingerprint(about["prompt"])}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        reasons = unfit(
            sources,
            answers,
            filters=recipe.filters,
            language=recipe.language_of(key),
            words=target.by.words,
            names=names,
        )
        for (number, field), answer, reason in zip(places, answers, reasons, strict=True):
            if reason is None and answer is not None:
                targets[number][field][key] = answer
                made[number][f"{field}.{key}"] = {**about, "time": now}
            else:
                dropped[number][f"{field}.{key}"] = (reason or "no answer", answer)
    return [
        Entry(
            id=record.id,
            split=record.split,
            record=record.model_copy(update={"targets": targets[n], "made": made[n]})
            if not recipe.targets or any(key in keys for keys in targets[n].values() for key in recipe.targets)
            else None,
            dropped=dropped[n],
        )
        for n, record in enumerate(records)
    ]


def _answers(teacher: Teacher, sources: Sequence[str], names: Sequence[tuple[str, ...]]) -> list[str | None]:
    """A teacher's answers; names that are no words, such as `#Person1#`, are people's names while it works."""
    swaps = [stand_ins(source, pair) for source, pair in zip(sources, names, strict=True)]
    asked = [rename(source, swap) for source, swap in zip(sources, swaps, strict=True)]
    back = [{new: old for old, new in swap.items()} for swap in swaps]
    found = teacher.answer(asked)
    return [answer and _restored(answer, swap) for answer, swap in zip(found, back, strict=True)]


def _restored(answer: str, back: dict[str, str]) -> str:
    """An answer with its own names again; as it is, to be dropped for a lost name, where one was inflected."""
    restored = rename(answer, back)
    inflected = any(re.search(rf"(?<!\w){re.escape(new)}\w{{1,2}}(?!\w)", restored) for new in back)
    return answer if inflected else restored


def _written(out: Path, met: Met) -> Counts:
    """Write the records of the journal into one file, and count."""
    kept, dropped = Counter[str](), dict[str, Counter[str]]()
    with writing_file(out / RECORDS) as path, path.open("w", encoding="utf-8") as lines:
        for entry in entries(out):
            if entry.record is not None:
                kept[entry.split] += 1
                lines.write(entry.record.model_dump_json() + "\n")
            for name, (reason, _) in entry.dropped.items():
                dropped.setdefault(name, Counter())[reason] += 1
    reasons = {name: dict(counted) for name, counted in dropped.items()}
    counts = Counts(read=met.read, again=met.again, empty=met.empty, kept=kept, dropped=reasons)
    write_text(out / COUNTS, json.dumps(counts.model_dump(), indent=2) + "\n")
    return counts
