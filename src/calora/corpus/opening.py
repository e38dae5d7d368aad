"""Open a source or a file of one's own as a stream of records: from the hub or from a folder, one row at a time."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from calora.corpus.records import Split, TextRecord
from calora.corpus.sources import Source
from calora.errors import CaloraError

Row = Mapping[str, Any]
_OWN_COLUMNS = ("text", "id", "domain", "group")
_BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {"keep_default_na": False}),
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".txt": ("text", {}),
}


def open_source(source: Source, split: Split, folder: str | Path | None = None) -> Iterator[TextRecord]:
    """Stream a split of a source.

    Args:
        source: Of the registry.
        split: Which.
        folder: Where its files lie, under the hub's names or the authors'; the hub if None.

    Raises:
        CaloraError: The source has no such split, a file is missing or cannot be fetched, or is not what it should be.
    """
    if split not in source.files:
        raise CaloraError(f"{source.name} has no {split} split", f"it has {', '.join(source.files)}")
    if source.parallel:
        paths = {key: _file(source, (name,), folder) for key, name in source.parallel.items()}
        return source.read(_side_by_side(paths), split)
    # Published tables with tabs have no quoting: a mark at a cell's beginning is part of its text.
    return source.read(rows_of(_file(source, source.files[split], folder), quoted=False), split)


def files_of(source: Source, split: Split, folder: str | Path) -> list[Path]:
    """The files of a folder that a split of a source is read from.

    Raises:
        CaloraError: One is missing.
    """
    names = [(name,) for name in source.parallel.values()] if source.parallel else [source.files[split]]
    return [_file(source, one, folder) for one in names]


def _file(source: Source, names: tuple[str, ...], folder: str | Path | None) -> Path:
    """A file of a source, by any of its names in a folder, or fetched from the hub."""
    if folder is not None:
        here = Path(folder)
        found = [path for name in names for path in (here / name, here / Path(name).name) if path.is_file()]
        if not found:
            raise CaloraError(f"{here} has no file of {source.title}", f"expected {' or '.join(names)}")
        return found[0]
    if not source.hub:
        raise CaloraError(f"{source.title} is not on the hub", f"get it from {source.link} and give its folder")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise _not_installed("huggingface_hub") from error
    try:
        return Path(hf_hub_download(source.hub, names[0], repo_type="dataset", revision=source.revision))
    except Exception as error:  # its many errors have no common class but this
        raise CaloraError(
            f"could not fetch {names[0]} of {source.hub}: {type(error).__name__}: {str(error).splitlines()[0]}",
            f"look at the network, or get the files from {source.link} and give their folder",
        ) from error


def rows_of(path: str | Path, quoted: bool = True) -> Iterator[Row]:
    """Stream the rows of a file of CSV, TSV, JSON, JSON Lines, Parquet, Arrow or text, or of a folder of `datasets`.

    Args:
        path: Of the file or the folder.
        quoted: Whether cells of a TSV may stand in quotation marks.

    Raises:
        CaloraError: There is nothing there, or it is of another kind, or it is damaged.
    """
    path = Path(path)
    try:
        import datasets
    except ImportError as error:
        raise _not_installed("datasets") from error
    if not path.exists():
        raise CaloraError(f"{path} does not exist", "give a file, or a folder that datasets.save_to_disk wrote")
    if path.is_file() and path.suffix not in _BUILDERS:
        raise CaloraError(f"{path} is of no known kind", f"expected one of {', '.join(_BUILDERS)}")
    try:
        if path.is_dir():
            saved = datasets.load_from_disk(str(path))
            if isinstance(saved, datasets.DatasetDict):
                raise CaloraError(f"{path} holds several splits", f"give the folder of one: {', '.join(saved)}")
            yield from saved.to_iterable_dataset()
        else:
            builder, options = _BUILDERS[path.suffix]
            if path.suffix == ".tsv" and not quoted:
                options = options | {"quoting": csv.QUOTE_NONE}
            yield from datasets.load_dataset(builder, data_files=str(path), split="train", streaming=True, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise CaloraError(f"{path}: {str(error).splitlines()[0]}", "look whether the file is whole") from error


def _not_installed(package: str) -> CaloraError:
    return CaloraError(f"reading data needs {package}, which is not installed", "pip install 'calora[data]'")


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


def open_plain(path: str | Path, columns: Mapping[str, str], split: Split) -> Iterator[TextRecord]:
    """Stream one's own file.

    Args:
        path: As for `rows_of`.
        columns: What a record needs to the column that has it: `text`; where there are any `id`, `domain` and `group`;
            and references as FIELD or FIELD.KEY (`summary`, `summary.es`), `en` where no key is given.
        split: The split that the rows are.

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
        if absent:
            raise CaloraError(f"{path}: there is no column {absent[0]!r}", f"columns: {', '.join(row)}")
        fields: dict[str, dict[str, str]] = {}
        for name, column in references.items():
            field, _, key = name.partition(".")
            if row[column] and str(row[column]).strip():
                fields.setdefault(field, {})[key or "en"] = str(row[column]).strip()
        text = str(row[columns["text"]] or "").strip()
        if text and fields:
            domain = str(row[columns["domain"]]) if "domain" in columns else "all"
            group = str(row[columns["group"]]) if "group" in columns else None
            identity = f"{split}-{row[columns['id']] if 'id' in columns else number}"  # files may count alike
            yield TextRecord(id=identity, split=split, domain=domain, group=group, text=text, targets=fields)
