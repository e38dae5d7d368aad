"""The registry of sources: published data sets, one a file, and what each gives."""

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from calora.corpus.records import Split, TextRecord
from calora.errors import CaloraError

Row = Mapping[str, Any]
Read = Callable[[Iterable[Row], Split], Iterator[TextRecord]]
# Of sentences that come with translations.
FIELD, LANGUAGES = "sentence", ("es", "fr", "de")


@dataclass(frozen=True)
class Source:
    """A published data set.

    Args:
        name: On the command line.
        title: In tables.
        read: (rows, split) to records, one after the other.
        gives: For which tasks it has references, and in which keys.
        licence: As its authors state it.
        link: Where it is described.
        hub: Its repository of data sets on the hub.
        files: By split, the names that its file has: the hub's first, then its authors' own; several files with `*`.
        revision: Of the hub's repository.
        seen: Whether the reading was tested on the authors' files; if not, on made-up ones of the published format.
        shipped: Its folder in the package, if it comes with it.
        parallel: Key to the file that has its lines, where files are parallel line by line; `files` then names a split.
    """

    name: str
    title: str
    read: Read
    gives: str
    licence: str
    link: str
    hub: str
    files: Mapping[Split, tuple[str, ...]]
    revision: str = "main"
    seen: bool = False
    shipped: str = ""
    parallel: Mapping[str, str] | None = None


_REGISTRY: dict[str, Source] = {}


def source(**about: Any) -> Callable[[Read], Read]:
    """Register a reading function as a source; arguments as for `Source`."""

    def register(read: Read) -> Read:
        _REGISTRY[about["name"]] = Source(read=read, **about)
        return read

    return register


def sources() -> dict[str, Source]:
    """Every registered source by name."""
    _load()
    return dict(sorted(_REGISTRY.items()))


def find_source(name: str) -> Source:
    """A source by name.

    Raises:
        CaloraError: There is none; names those that there are.
    """
    _load()
    if name not in _REGISTRY:
        raise CaloraError(f"unknown source {name!r}", f"sources: {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]


def columns(row: Row, *names: str) -> tuple[str, ...]:
    """The texts in some columns of a row.

    Raises:
        CaloraError: One is missing or holds something else; names the columns that there are.
    """
    values = []
    for name in names:
        value = row.get(name)
        if not isinstance(value, str):
            problem = f"column {name!r} holds {value!r}" if name in row else f"there is no column {name!r}"
            raise CaloraError(problem, f"columns: {', '.join(row)}; is it this data set's own file?")
        values.append(value)
    return tuple(values)


@cache
def _load() -> None:
    import calora.corpus.sources as package

    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
