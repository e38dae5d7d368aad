"""Open a source or a file of one's own as a stream of records: from the hub or from a folder, one row at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from fnmatch import fnmatch
from importlib.resources import files as package_files
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calora.corpus.reading import Row, not_installed, rows_of
from calora.corpus.records import Split, TextRecord
from calora.corpus.sources import Source
from calora.errors import CaloraError

_OWN_COLUMNS = ("text", "id", "domain", "group", "names")


def open_source(source: Source, split: Split, folder: str | Path | None = None) -> Iterator[TextRecord]:
    """Stream a split of a source.

    Args:
        source: Of the registry.
        split: Which.
        folder: Where its files lie, under the hub's names or the authors'; if None the hub, or the package.

    Raises:
        CaloraError: The source has no such split, a file is missing or cannot be fetched, or is not what it should be.
    """
    if split not in source.files:
        raise CaloraError(f"{source.name} has no {split} split", f"it has {', '.join(source.files)}")
    if source.parallel:
        paths = {key: _files(source, (name,), folder)[0] for key, name in source.parallel.items()}
        return _checked(source, split, source.read(_side_by_side(paths), split))
    # Published tables with tabs have no quoting: a mark at a cell's beginning is part of its text.
    rows = (rows_of(path, quoted=False) for path in _files(source, source.files[split], folder))
    return _checked(source, split, source.read(chain.from_iterable(rows), split))


def files_of(source: Source, split: Split, folder: str | Path | None) -> dict[str, Path]:
    """Name to file of what a split of a source is read from; what is not in a folder is fetched from the hub.

    Raises:
        CaloraError: One is missing.
    """
    names = [(name,) for name in source.parallel.values()] if source.parallel else [source.files[split]]
    where = "calora" if source.shipped else f"{source.hub}@{source.revision}"
    found = [path for one in names for path in _files(source, one, folder)]
    return {f"{where}/{path.parent.name}/{path.name}" if folder is None else str(path): path for path in found}


def _files(source: Source, names: tuple[str, ...], folder: str | Path | None) -> list[Path]:
    """The files of a source by any of their names, in which `*` may stand, in a folder or fetched from the hub."""
    if folder is None and source.shipped:
        folder = str(package_files("calora").joinpath(source.shipped))
    if folder is not None:
        here = Path(folder)
        for place in (place for name in names for place in (name, Path(name).name)):
            if found := sorted(path for path in here.glob(place) if path.is_file()):
                return found
        raise CaloraError(f"{here} has no file of {source.title}", f"expected {' or '.join(names)}")
    if not source.hub:
        raise CaloraError(f"{source.title} is not on the hub", f"get it from {source.link} and give its folder")
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError as error:
        raise not_installed("huggingface_hub") from error
    try:
        wanted = [names[0]]
        if "*" in names[0]:
            listed = HfApi().list_repo_files(source.hub, repo_type="dataset", revision=source.revision)
            wanted = sorted(name for name in listed if fnmatch(name, names[0])) or wanted
        return [
            Path(hf_hub_download(source.hub, name, repo_type="dataset", revision=source.revision)) for name in wanted
        ]
    except Exception as error:  # its many errors have no common class but this
        raise CaloraError(
            f"could not fetch {names[0]} of {source.hub}: {type(error).__name__}: {str(error).splitlines()[0]}",
            f"look at the network, or get the files from {source.link} and give their folder",
        ) from error


def _side_by_side(paths: Mapping[str, Path]) -> Iterator[Row]:
    """Rows of files that are parallel line by line.

    Raises:
        CaloraError: One has more lines than another.
    """
    with ExitStack() as stack:
        streams = {key: stack.enter_context(path.open(encoding="utf-8")) for key, path in paths.items()}
        while True:
            lines = {key: next(stream, None) for key, stream in streams.items()}
            if all(line is None for line in lines.values()):
                return
            short = [str(paths[key]) for key, line in lines.items() if line is None]
            if short:
                raise CaloraError(f"{', '.join(short)} ends before the files beside it", "the files must be parallel")
            yield lines


def open_plain(
    path: str | Path, columns: Mapping[str, str], split: Split, empty: Counter[str] | None = None
) -> Iterator[TextRecord]:
    """Stream one's own file.

    Args:
        path: As for `rows_of`.
        columns: What a record needs to the column that has it: `text`; where there are any `id`, `domain`, `group` and
            `names` (of people, with commas between them, or a list); and references as FIELD or FIELD.KEY (`summary`,
            `summary.es`), `en` where no key is given.
        split: The split that the rows are.
        empty: Counts, by split, the rows that have no text or no reference and are passed over.

    Raises:
        CaloraError: As for `rows_of`; or a column is missing; or there is no text or no reference among the columns.
    """
    references = {name: column for name, column in columns.items() if name not in _OWN_COLUMNS}
    if "text" not in columns or not references:
        raise CaloraError(
            f"the columns {', '.join(f'{k}={v}' for k, v in columns.items()) or 'none'} do not make a record",
            "give text=COLUMN and at least one reference, such as summary=COLUMN",
        )
    for number, row in enumerate(rows_of(path), 1):
        absent = [column for column in columns.values() if column not in row]
        if absent and number == 1:  # later ones may leave a key out, in JSON
            raise CaloraError(f"{path}, row 1: there is no column {absent[0]!r}", f"columns: {', '.join(row)}")
        cells = {name: row.get(column) for name, column in columns.items()}
        if "names" in cells:
            cells["names"] = _joined(cells["names"])
        of = {name: _text(cell, f"{path}, row {number}: {columns[name]!r}") for name, cell in cells.items()}
        fields: dict[str, dict[str, str]] = {}
        for name in references:
            field, _, key = name.partition(".")
            if of[name]:
                fields.setdefault(field, {})[key or "en"] = of[name]
        if not (of["text"] and fields):
            if empty is not None:
                empty[split] += 1
            continue
        yield TextRecord(
            id=f"{split}-{of.get('id', number)}",  # files may count alike
            split=split,
            domain=of.get("domain", "all"),
            group=of.get("group"),
            names=tuple(name.strip() for name in of.get("names", "").split(",") if name.strip()),
            text=of["text"],
            targets=fields,
        )


def _joined(names: Any) -> Any:
    """A cell of names as text where it is a list of them."""
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return ", ".join(names) if listed else names


def _text(value: object, where: str) -> str:
    """A cell as text; a number as it is written, and nothing for what is missing.

    Raises:
        CaloraError: It is a list, an object, or true or false.
    """
    if isinstance(value, list | dict | bool):
        raise CaloraError(f"{where} holds {str(value)[:40]}", "expected text or a number in a cell")
    return "" if value is None else str(value).strip()


def _checked(source: Source, split: Split, records: Iterator[TextRecord]) -> Iterator[TextRecord]:
    """The records, or which of them is not what the source's are."""
    number = 1
    try:
        for record in records:
            yield record
            number += 1
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CaloraError(
            f"{source.title}, {split}, record {number}: {where}: {first['msg']}", "is it this data set's own file?"
        ) from error
