"""Rows of a file of any kind, one at a time and as they are written.

Tables and JSON by the standard library, which takes `007` for what it is; what is packed by `datasets`.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from calora.errors import CaloraError, install_hint

Row = Mapping[str, Any]
_TABLES = {".csv": ",", ".tsv": "\t"}
_PACKED = {".parquet": "parquet", ".arrow": "arrow"}
_KINDS = (*_TABLES, ".json", ".jsonl", ".txt", *_PACKED)
_CELL = 2**31 - 1  # the standard library's own limit, 128 KiB, is shorter than a long conversation


def rows_of(path: str | Path, quoted: bool = True) -> Iterator[Row]:
    """Stream the rows of a file of CSV, TSV, JSON, JSON Lines, Parquet, Arrow or text, or of a folder of `datasets`.

    Cells of a table are text. A whole file of JSON is held; all other kinds are read a row at a time.

    Args:
        path: Of the file or the folder.
        quoted: Whether cells of a TSV may stand in quotation marks.

    Raises:
        CaloraError: There is nothing there, or it is of another kind, or it is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise CaloraError(f"{path} does not exist", "give a file, or a folder that datasets.save_to_disk wrote")
    if path.is_file() and path.suffix not in _KINDS:
        raise CaloraError(f"{path} is of no known kind", f"expected one of {', '.join(_KINDS)}")
    if path.is_dir() or path.suffix in _PACKED:
        yield from _packed(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in _TABLES:
                yield from _table(path, file, quoted or path.suffix == ".csv")
            elif path.suffix == ".txt":
                yield from ({"text": line.rstrip("\r\n")} for line in file)
            else:
                yield from _objects(path, file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CaloraError(f"{path}: {error}", "look whether the file is whole, and UTF-8") from error


def _table(path: Path, file: TextIO, quoted: bool) -> Iterator[Row]:
    csv.field_size_limit(_CELL)
    lines = csv.reader(
        file, delimiter=_TABLES[path.suffix], quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
    )
    head = next(lines, [])
    while True:
        try:
            cells = next(lines, None)
        except csv.Error as error:
            raise CaloraError(
                f"{path}, line {lines.line_num}: {error}", "a quotation mark in a quoted cell is written twice"
            ) from error
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(head):
            raise CaloraError(
                f"{path}, line {lines.line_num}: {len(cells)} cells under {len(head)} columns",
                "a cell that holds the separator or a line break stands in quotation marks",
            )
        yield dict(zip(head, cells, strict=True))


def _objects(path: Path, file: TextIO) -> Iterator[Row]:
    found = enumerate(file, 1) if path.suffix == ".jsonl" else [(1, file.read())]
    for number, text in found:
        if not text.strip():
            continue
        try:
            value = json.loads(text)
            if "\\ud" in text.lower():  # half of a pair, which is no character, cannot be written again
                json.dumps(value, ensure_ascii=False).encode()
        except ValueError as error:
            raise CaloraError(f"{path}, line {number}: {error}", "expected JSON") from error
        for row in value if isinstance(value, list) and path.suffix == ".json" else [value]:
            if not isinstance(row, dict):
                raise CaloraError(f"{path}, line {number}: {str(row)[:40]!r} is no object", "expected {...} a record")
            yield row


def _packed(path: Path) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise not_installed("datasets") from error
    try:
        if path.is_dir():
            saved = datasets.load_from_disk(str(path))
            if isinstance(saved, datasets.DatasetDict):
                raise CaloraError(f"{path} holds several splits", f"give the folder of one: {', '.join(saved)}")
            yield from saved.to_iterable_dataset()
        else:
            yield from datasets.load_dataset(_PACKED[path.suffix], data_files=str(path), split="train", streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise CaloraError(f"{path}: {str(error).splitlines()[0]}", "look whether the file is whole") from error


def not_installed(package: str) -> CaloraError:
    """What is said where a package for reading data is missing."""
    return CaloraError(f"reading data needs {package}, which is not installed", install_hint("data"))
