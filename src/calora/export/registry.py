"""The formats an adapter can be exported to, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calora.adapter import Adapter
from calora.export.layout import Layout

Writer = Callable[[Adapter, Layout, Path, str], None]


@dataclass(frozen=True)
class Exporter:
    """A format.

    Args:
        name: What the command line calls it.
        runtimes: Who loads it.
        suffix: Of the file; empty for a folder.
        dtypes: In which tensors may be stored, the usual one first.
        write: (adapter, layout, target, dtype) to a file or folder, whole or not at all.
    """

    name: str
    runtimes: str
    suffix: str
    dtypes: tuple[str, ...]
    write: Writer


_EXPORTERS: dict[str, Exporter] = {}


def exporter(name: str, *, runtimes: str, dtypes: tuple[str, ...], suffix: str = "") -> Callable[[Writer], Writer]:
    """Register a function as the writer of a format and return it as it is.

    Args:
        name: What the command line calls it.
        runtimes: Who loads it.
        dtypes: In which tensors may be stored, the usual one first.
        suffix: Of the file; empty for a folder.

    Raises:
        ValueError: Another format has the name.
    """

    def register(write: Writer) -> Writer:
        if name in _EXPORTERS:
            raise ValueError(f"two exporters are called {name}")
        _EXPORTERS[name] = Exporter(name, runtimes, suffix, dtypes, write)
        return write

    return register


def exporters() -> dict[str, Exporter]:
    """Every registered format by its name, in alphabetical order."""
    return dict(sorted(_EXPORTERS.items()))
