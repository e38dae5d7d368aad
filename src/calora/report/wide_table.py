"""A table that is shown in parts where it is wider than the terminal, so that nothing of it is cut."""

from collections.abc import Collection
from copy import copy
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_NAMES = 16  # of the terminal's columns: a table is parted before its names have fewer, or are broken within a word
_ENDLESS = 10_000


class WideTable(Table):
    """Figures behind a first column of names; rich's own table cuts figures, and leaves out names.

    Where all columns fit, names are wrapped. Else the parts stand one below the other, each with the names.

    Attributes:
        joined: Places of the columns that stay with the one before, such as the p-value of a difference.
    """

    joined: Collection[int] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The parts, from the left to the right, and below them the caption."""
        parts = self._parts(console, options)
        for number, places in enumerate(parts):
            part = self._part(places)
            if number:
                part.title = None
                yield Text()
            if len(parts) > 1:
                part.caption = None
            yield from Table.__rich_console__(part, console, options)
        if len(parts) > 1 and self.caption:
            told = self.caption
            yield console.render_str(told, style="table.caption", highlight=False) if isinstance(told, str) else told

    def _parts(self, console: Console, options: ConsoleOptions) -> list[list[int]]:
        """Places of the columns behind the names, part by part."""
        words = [console.measure(name, options=options).minimum for name in self.columns[0].cells]
        names = max(_NAMES, min(max(words, default=0), options.max_width // 2))

        def fits(places: list[int]) -> bool:
            measured = console.measure(self._part(places, names), options=options.update(width=_ENDLESS))
            return measured.maximum <= options.max_width

        groups: list[list[int]] = []
        for place in range(1, len(self.columns)):
            if place in self.joined and fits([*groups[-1], place]):
                groups[-1].append(place)
            else:
                groups.append([place])
        parts: list[list[int]] = [[]]
        for group in groups:
            if parts[-1] and not fits(parts[-1] + group):
                parts.append([])
            parts[-1] += group
        return parts

    def _part(self, places: list[int], names: int | None = None) -> "WideTable":
        """The names, of so many columns of the terminal at most, and the columns at these places."""
        part = copy(self)
        part.columns = [
            replace(self.columns[0], max_width=names, overflow="fold"),
            *(replace(self.columns[place], _index=index, no_wrap=True) for index, place in enumerate(places, start=1)),
        ]
        return part
